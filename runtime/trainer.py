"""One optimizer step on one rank: forward and backward of every micro-batch, clip, update."""

from dataclasses import dataclass

import torch

from runtime import comm, data, faults, optim, parallel, zigzag
from runtime.faults import Fault
from runtime.mesh import Mesh
from runtime.model import CausalLM, Positions
from runtime.reporter import Reporter
from runtime.settings import TrainConfig
from runtime.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one optimizer step gave, the same on every rank but for the own loss and the seconds."""

    loss: float
    """Mean over all labels of the step."""
    own_loss: float
    """This rank's part of that mean; the parts of all ranks add up to it."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    seconds: float
    split_s: dict[str, float]


class Trainer:
    """The model, its optimizer and its data on one rank."""

    def __init__(
        self, config: TrainConfig, *, model: CausalLM, mesh: Mesh, dataset: data.Dataset, fault: Fault | None = None
    ) -> None:
        self.config = config
        self.model = model
        self.mesh = mesh
        self.loader = data.Loader(
            dataset,
            batch=config.batch,
            sizes=config.sizes,
            data_rank=mesh.data_rank,
            cp_rank=mesh.cp_rank,
            seed=config.seed,
            device=mesh.device,
        )
        self.steps = config.optimization.max_steps or self.loader.steps_of(config.optimization.num_epochs)
        self.optimizer = optim.build(model, config.optimization)
        self._positions = Positions(
            tokens=zigzag.positions(mesh.cp_rank, config.sizes.cp, config.batch.sequence_len, device=mesh.device)
        )
        self._stopwatch = Stopwatch(mesh.device)
        self._fault = fault

    @property
    def tokens_per_step(self) -> int:
        """Positions that all ranks together work on in a step, padding included."""
        return self.loader.sequences_per_step * self.config.batch.sequence_len

    def step(self, step: int, reporter: Reporter) -> StepResult:
        """Step 0, 1, …: forward and backward of every micro-batch, clip, update. Waits for the device once."""
        watch = self._stopwatch
        watch.start()
        own_loss = faults.spoil(self._fault, self.accumulate(step, reporter), step=step + 1)
        reporter.progress.enter("optimizer")
        gradients = parallel.local_gradients(self.model)
        loss, norm = optim.reduce_loss_and_norm(own_loss, gradients, self.mesh.shard_mesh.get_group())
        options = self.config.optimization
        optim.clip_(gradients, norm, options.max_grad_norm)
        rate = optim.learning_rate(step, steps=self.steps, options=options)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        watch.lap("optimizer")
        loss_value, own_value, norm_value = comm.read(torch.stack((loss, own_loss, norm)))
        return StepResult(
            loss=loss_value,
            own_loss=own_value,
            grad_norm=norm_value,
            learning_rate=rate,
            seconds=watch.step_s(),
            split_s=watch.split_s(),
        )

    def accumulate(self, step: int, reporter: Reporter) -> torch.Tensor:
        """Gradients of a whole step into the parameters; this rank's part of the mean loss."""
        progress = reporter.progress
        progress.enter("data", step=step + 1)
        scale = 1.0 / max(self.loader.labelled_tokens(step), 1)
        loss = torch.zeros((), device=self.mesh.device)
        for index in range(self.config.batch.accumulation):
            progress.enter("data")
            batch = self.loader.micro_batch(step, index)
            self._stopwatch.lap("data")
            progress.enter("forward")
            faults.strike(self._fault, step=step + 1, device=self.mesh.device)
            part = self.model(batch.inputs, self._positions, batch.labels, scale)
            self._stopwatch.lap("forward")
            progress.enter("backward")
            part.backward()
            self._stopwatch.lap("backward")
            loss += part.detach()
            reporter.heartbeat()
        return loss
