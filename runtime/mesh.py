"""Which process is which: the default group, the groups of each axis, this rank's place and device.

Rank = data rank x cp + context rank, the order of axolotl's and accelerate's
mesh (dp_replicate, dp_shard, cp, tp) with the outer and inner axis of one.
The cp axis is itself two, ring ranks x ulysses: neighbours exchange heads, the
others send K and V. Every axis has a communicator of its own, so that messages
run beside FSDP's collectives, and each group carries the name of its axis.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import DeviceMesh

from runtime.attention import AttentionPlace
from runtime.errors import TrainerError
from runtime.settings import Sizes

TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """This process among the others."""

    rank: int
    sizes: Sizes
    device: torch.device
    kv_group: dist.ProcessGroup | None
    """Ranks of a sequence among which K and V go; None where they do not."""
    heads_group: dist.ProcessGroup | None
    """Ranks of a sequence that exchange heads; None where none do."""
    shard_mesh: DeviceMesh
    """dp_shard x cp, over which parameters are sharded."""

    @property
    def data_rank(self) -> int:
        """Which sequences this rank sees."""
        return self.rank // self.sizes.cp

    @property
    def cp_rank(self) -> int:
        """Which share of each sequence this rank holds."""
        return self.rank % self.sizes.cp

    @property
    def groups(self) -> tuple[dist.ProcessGroup, ...]:
        """All that this rank exchanges in: with every other rank, over the parameters, over the sequence."""
        everyone = dist.group.WORLD
        assert everyone is not None, "a mesh lies inside a default group"
        return everyone, self.shard_mesh.get_group(), *self.sequence_groups

    @property
    def sequence_groups(self) -> tuple[dist.ProcessGroup, ...]:
        """The groups in which this rank exchanges parts of its sequences."""
        return tuple(group for group in (self.kv_group, self.heads_group) if group is not None)

    def attention_place(self, kernel: str) -> AttentionPlace:
        """How the operator of attention finds the groups: by name, empty where there is none."""
        kv, heads = (("" if group is None else group.group_name) for group in (self.kv_group, self.heads_group))
        return AttentionPlace(kernel=kernel, method=self.sizes.method, kv_group=kv, heads_group=heads)


def world_size() -> int:
    """Processes of this launch as torchrun says; one without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def global_rank() -> int:
    """This process among them; zero without torchrun."""
    return int(os.environ.get("RANK", "0"))


def pick_device(sizes: Sizes) -> torch.device:
    """The GPU of this local rank, or the CPU where torch sees no GPU."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if not torch.cuda.is_available():
        return torch.device("cpu")
    index = device_index(
        int(os.environ.get("LOCAL_RANK", "0")),
        sizes.rank_order,
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        torch.cuda.device_count(),
    )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def device_index(local_rank: int, rank_order: tuple[int, ...] | None, visible: str | None, count: int) -> int:
    """CUDA's index of the GPU that `rank_order` gives to a local rank.

    CUDA counts within CUDA_VISIBLE_DEVICES: order (0, 3) with `0,3` visible gives local rank 1 index 1.
    """
    gpu = local_rank if rank_order is None else rank_order[local_rank % len(rank_order)]
    names = [] if visible is None else [name.strip() for name in visible.split(",")]
    if rank_order is not None and names and all(name.isdigit() for name in names):
        if str(gpu) not in names:
            raise TrainerError(
                f"cpadvisor.rank_order asks for GPU {gpu}, but CUDA_VISIBLE_DEVICES is {visible}; add it there"
            )
        gpu = names.index(str(gpu))
    if gpu >= count:
        raise TrainerError(
            f"local rank {local_rank} asks for GPU {gpu}, but {count} are visible; start fewer processes"
        )
    return gpu


def join(sizes: Sizes, device: torch.device) -> Mesh:
    """Meet the other processes and make the groups. A single process meets itself."""
    world = sizes.world
    options: dict[str, Any] = {"timeout": TIMEOUT}
    if device.type == "cuda":
        options["device_id"] = device
    if "MASTER_ADDR" not in os.environ:
        options.update(store=HashStore(), rank=0, world_size=1)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", **options)
    assert dist.get_world_size() == world, f"{dist.get_world_size()} processes met, the config has {world}"
    return make_mesh(sizes, device)


def make_mesh(sizes: Sizes, device: torch.device) -> Mesh:
    """The groups of the axes inside an initialised default group. Every rank calls it at the same point."""
    rank = dist.get_rank()
    ranks = torch.arange(sizes.world).view(sizes.dp_shard, sizes.cp)
    # DTensor remembers meshes by their ranks and groups by a running number, beyond the life of a group: the
    # group that shards comes first, so that a later mesh of the same ranks finds its own under the same number.
    shard_group = dist.new_group(ranks.flatten().tolist(), group_desc="dp_shard_cp")
    assert isinstance(shard_group, dist.ProcessGroup), "every rank is in the group that shards parameters"
    by_sequence = ranks.view(sizes.dp_shard, sizes.ring_ranks, sizes.ulysses)
    # [data, ring, ulysses] -> rows of ring ranks, rows of neighbours
    kv_rows = by_sequence.transpose(1, 2).reshape(-1, sizes.ring_ranks)
    kv_group = _own_group(kv_rows, rank, "cp") if sizes.ring_ranks > 1 else None
    heads_group = _own_group(by_sequence.reshape(-1, sizes.ulysses), rank, "cp_heads") if sizes.ulysses > 1 else None
    shard_mesh = DeviceMesh.from_group(shard_group, device.type, mesh_dim_names=("dp_shard_cp",))
    return Mesh(
        rank=rank, sizes=sizes, device=device, kv_group=kv_group, heads_group=heads_group, shard_mesh=shard_mesh
    )


def _own_group(ranks: torch.Tensor, rank: int, name: str) -> dist.ProcessGroup:
    """One group for each row of `ranks`, every rank helping to make all; the row that holds `rank`."""
    own = None
    for row in ranks.tolist():
        group = dist.new_group(row, group_desc=name)
        own = group if rank in row else own
    assert isinstance(own, dist.ProcessGroup), f"rank {rank} is in no row of {ranks.tolist()}"
    return own


def leave() -> None:
    """Take the groups down."""
    if dist.is_initialized():
        dist.destroy_process_group()
