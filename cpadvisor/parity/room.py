"""Whether a length fits at cp 1, where one GPU takes the whole sequence: the planner's memory model on this machine."""

from dataclasses import dataclass
from pathlib import Path

from cpadvisor import catalog
from cpadvisor.errors import CpadvisorError, ModelError
from cpadvisor.hardware import GpuSpec
from cpadvisor.job import product_of
from cpadvisor.launch.jobfile import JobFile
from cpadvisor.model import ModelSpec
from cpadvisor.plan.candidate import Candidate
from cpadvisor.plan.engines import CPADVISOR
from cpadvisor.plan.layout import Layout
from cpadvisor.plan.memory import estimate_memory
from cpadvisor.plan.problem import survey
from cpadvisor.plan.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a GPU of the run at cp 1 has to give, and the model that is to fit."""

    model: ModelSpec
    gpu: GpuSpec
    limit_bytes: int
    dp_shard: int
    micro_batch: int = 1
    accumulation: int = 1

    def peak_bytes(self, tokens: int, recompute: str) -> int:
        """The expected peak at cp 1."""
        return estimate_memory(self._candidate(tokens, recompute), limit_bytes=self.limit_bytes).peak_bytes

    def fits(self, tokens: int, recompute: str) -> bool:
        """Whether it fits with its whole band."""
        return estimate_memory(self._candidate(tokens, recompute), limit_bytes=self.limit_bytes).fits

    def longest(self, recompute: str, *, unit: int, most: int) -> int:
        """The longest multiple of `unit` up to `most` that fits; 0 where not even one unit does."""
        low, high = 0, most // unit
        while low < high:
            middle = (low + high + 1) // 2
            if self.fits(middle * unit, recompute):
                low = middle
            else:
                high = middle - 1
        return low * unit

    def _candidate(self, tokens: int, recompute: str) -> Candidate:
        return Candidate(
            model=self.model,
            engine=CPADVISOR,
            gpu=self.gpu,
            layout=Layout(dp_shard=self.dp_shard),
            sequence_len=tokens,
            recompute=recompute,
            micro_batch=self.micro_batch,
            accumulation=self.accumulation,
        )


def room_here(job: JobFile) -> tuple[Room | None, str | None]:
    """The room on this machine's GPUs, or None with the reason why no length can be judged; CPU processes need none."""
    from cpadvisor.probe import nvml, witness  # NVML is asked only where GPUs may be wanted

    if job.wants_gpu is False:
        return None, None
    try:
        node = nvml.read_node(witness=witness.Witness(None))
        gpu, model = product_of(node), model_of(job)
    except nvml.NoGpuError:
        return None, None
    except CpadvisorError as error:
        return None, f"whether the length fits at cp 1 is not known: {error}"
    workload = Workload(model=model, sequence_len=1)
    return (
        Room(
            model=model,
            gpu=gpu,
            limit_bytes=survey(node, gpu, workload).limit_bytes,
            dp_shard=job.layout["dp_shard"],
            micro_batch=whole_number(job, "micro_batch_size"),
            accumulation=whole_number(job, "gradient_accumulation_steps"),
        ),
        None,
    )


def model_of(job: JobFile) -> ModelSpec:
    """The model's shape: of the folder that base_model names, else of the catalogue. Raises ModelError."""
    base = job.values.get("base_model")
    if isinstance(base, str):
        folder = job.path.parent / Path(base).expanduser()
        if folder.is_dir():
            return catalog.find_model(str(folder))
    try:
        return catalog.find_model(job.model)
    except ModelError as error:
        raise ModelError(f"{job.path}: base_model: {error}") from error


def whole_number(job: JobFile, key: str) -> int:
    """A count of the config; 1 where it is left out."""
    value = job.values.get(key)
    return value if type(value) is int and value > 0 else 1
