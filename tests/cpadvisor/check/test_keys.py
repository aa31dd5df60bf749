"""Names of keys."""

import pytest

from cpadvisor.check.keys import DEPRECATED, LEGACY_ATTENTION, axolotl_keys, trainer_keys
from runtime import keys as runtime_keys


@pytest.mark.parametrize("engine", ["cpadvisor", "axolotl-0.21", "axolotl-0.20"])
def test_a_sound_config_has_no_findings(found, engine):
    assert found(engine=engine) == ()


@pytest.mark.parametrize("engine", ["cpadvisor", "axolotl-0.21"])
@pytest.mark.parametrize("key", ["base_model", "learning_rate"])
def test_a_required_key_is_missed_by_name(found, engine, key):
    (finding,) = found(engine=engine, **{key: ...})
    assert (finding.rule, finding.severity, finding.key) == ("key-missing", "error", key)


def test_datasets_are_missed_in_both_engines_but_a_corpus_stands_in_for_them(only, found):
    assert only(datasets=...).message == "datasets is missing or empty"
    assert only(datasets=[]).key == "datasets"
    assert found(engine="cpadvisor", datasets=...) == ()
    without = {"method": "ring", "random_weights": True, "model": "llama-3.1-8b"}
    assert only(engine="cpadvisor", cpadvisor=without).fix.endswith("python-stdlib for the built-in text")


@pytest.mark.parametrize("engine", ["cpadvisor", "axolotl-0.21"])
def test_a_misspelt_key_names_its_line_and_the_nearest_known_one(found, engine):
    findings = found(engine=engine, max_grad_norm=..., max_gradnorm=1.0)
    (finding,) = [finding for finding in findings if finding.rule == "key-unknown"]
    assert finding.severity == "error"
    assert finding.fix == "write max_grad_norm"
    assert finding.message.startswith("line 2")


def test_a_misspelt_key_in_a_block_is_named_by_its_path(only):
    finding = only(fsdp_config={"reshard_after_forwrd": True})
    assert (finding.key, finding.fix) == ("fsdp_config.reshard_after_forwrd", "write fsdp_config.reshard_after_forward")
    finding = only(datasets=[{"path": "a/b", "typ": "alpaca"}])
    assert (finding.key, finding.fix) == ("datasets.typ", "write datasets.type")


def test_a_key_that_a_plugin_may_read_is_only_a_note(found):
    (finding,) = found(plugins=["axolotl.integrations.liger.LigerPlugin"], liger_rope=True)
    assert (finding.rule, finding.severity) == ("key-unknown", "note")


@pytest.mark.parametrize("key", sorted(set(DEPRECATED) - {"flash_attention"}))
def test_a_deprecated_key_is_a_warning_with_its_new_name(found, key):
    changes = {"attn_implementation": ...} if key in LEGACY_ATTENTION else {}
    rules = [(finding.rule, finding.severity, finding.key) for finding in found(**changes, **{key: 1})]
    assert ("key-deprecated", "warning", key) in rules


def test_the_old_flash_flag_is_deprecated_and_still_counts_as_a_kernel(only):
    finding = only(attn_implementation=..., flash_attention=True)
    assert (finding.rule, finding.fix) == ("key-deprecated", "write attn_implementation: flash_attention_2")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"fsdp": ["full_shard"]}, "fsdp"),
        ({"s2_attention": True}, "s2_attention"),
        ({"fsdp_config": {"sharding_strategy": "FULL_SHARD"}}, "fsdp_config.sharding_strategy"),
        ({"fsdp_config": {"fsdp_forward_prefetch": True}}, "fsdp_config.forward_prefetch"),
    ],
)
def test_a_removed_key_is_an_error(found, changes, key):
    assert ("key-removed", "error", key) in [(item.rule, item.severity, item.key) for item in found(**changes)]


def test_the_old_prefix_of_fsdp_keys_is_a_warning(only):
    finding = only(fsdp_config={"fsdp_reshard_after_forward": True})
    assert (finding.severity, finding.fix) == ("warning", "write fsdp_config.reshard_after_forward")


def test_what_the_bundled_trainer_does_not_do_is_refused_unless_it_is_off(only, found):
    assert only(engine="cpadvisor", adapter="lora").rule == "key-refused"
    assert found(engine="cpadvisor", adapter=None) == ()


def test_the_list_of_trainer_keys_is_what_the_trainer_has():
    ours = trainer_keys()
    for name, table in {
        "honoured": runtime_keys.HONOURED,
        "accepted": runtime_keys.ACCEPTED,
        "refused": runtime_keys.REFUSED,
        "datasets": runtime_keys.DATASET,
        "fsdp_config": runtime_keys.FSDP_CONFIG,
        "cpadvisor": runtime_keys.CPADVISOR,
    }.items():
        assert set(ours[name]) == set(table), name


def test_the_list_of_axolotl_has_the_keys_that_the_card_writes():
    card = {
        "dp_shard_size", "tensor_parallel_size", "context_parallel_size", "fsdp_version", "fsdp_config",
        "sequence_len", "micro_batch_size", "gradient_accumulation_steps", "flash_attention", "tf32", "max_steps",
    }  # fmt: skip
    assert card <= set(axolotl_keys()["top"])
    assert len(axolotl_keys()["top"]) == 426
