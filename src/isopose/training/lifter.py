"""Stage: train a lifter and, if asked, its discriminator; every variant gets the same steps and the same tuning."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch import Tensor

from isopose import stage, tracking
from isopose.errors import UserError
from isopose.evaluation.metrics import mpjpe
from isopose.models.discriminator import Discriminator
from isopose.models.lifter import Lifter, lift
from isopose.occlusion.masking import corrupt, draw_corruption
from isopose.training import losses
from isopose.training.data import Batch, Frames, LabelledView, Sampler, read_views
from isopose.training.ema import MovingAverage

PARAMETERS = {
    "seed": int,
    "threads": int,
    "device": str,
    "architecture": str,
    "embedding": dict,
    "box": bool,
    "strides": list,
    "frames": int,
    "width": int,
    "max_layers": int,
    "dropout": float,
    "masking": (dict, type(None)),
    "flip": float,
    "rotate3d": float,
    "virtual_views": float,
    "weights": dict,
    "projection": str,
    "loss_unit": float,
    "discriminator": (dict, type(None)),
    "steps": int,
    "batch_clips": int,
    "batch_clips_2d": int,
    "learning_rates": list,
    "pilot_steps": int,
    "ema_decay": float,
    "validate_every": int,
    "checkpoint": str,
}
"""Parameters of the stage; params.yaml describes each.

embedding: kind, width, channels (of the conv kind). masking: see isopose.occlusion.masking.draw_corruption. weights:
multi_view, projection, adversarial (w_1, w_2, w_3 of Eq. 6). projection: Orth() of Eq. 3, one of
isopose.training.losses.MISFITS. discriminator: objective, rate (its learning rate as a multiple of the lifter's) and
betas (of its Adam) besides the arguments of isopose.models.discriminator.Discriminator. learning_rates: each is tried
for pilot_steps, the best on validation is trained for steps. checkpoint: best (on validation) or last.
"""

_MODEL_KEYS = ("architecture", "embedding", "box", "strides", "frames", "width", "max_layers", "dropout")

Logger = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Data:
    """What a training reads: frames with 3D labels, frames with 2D labels only (or None), whole validation views."""

    train3d: Frames
    train2d: Frames | None
    validation: list[LabelledView]
    map_size: int


@dataclass
class Trained:
    """The result of a training; validation_mpjpe in m."""

    lifter: Lifter
    discriminator: Discriminator | None
    validation_mpjpe: float


def load_data(
    train3d: Path, train2d: Path | None, validation: Path, stores: Mapping[str, Path], with_maps: bool
) -> Data:
    """Read all roles into memory."""
    views = read_views(validation, stores, with_maps)
    only2d = Frames.load(train2d, stores, with_maps) if train2d else None
    return Data(Frames.load(train3d, stores, with_maps), only2d, views, views[0].detections.map_size)


def validation_mpjpe(lifter: Lifter, views: list[LabelledView]) -> float:
    """MPJPE over all frames of the views, and the joints that they have, m."""
    errors = []
    for view in views:
        camera = view.clip.cameras[view.clip.views[view.key.view].camera]
        errors.append(_mpjpe(lift(lifter, view.detections, camera), view))
    return float(np.concatenate(errors).mean())


def mean_pose_mpjpe(mean_pose: np.ndarray, views: list[LabelledView]) -> float:
    """MPJPE of always answering with the mean training pose, m."""
    errors = [_mpjpe(np.broadcast_to(mean_pose, view.joints3d.shape), view) for view in views]
    return float(np.concatenate(errors).mean())


def _mpjpe(predicted: np.ndarray, view: LabelledView) -> np.ndarray:
    """MPJPE (F,), m, of root-relative poses (F, 17, 3) of a view, over the joints that it has."""
    target = view.joints3d - view.joints3d[:, :1]
    valid = view.clip.joint_valid
    return mpjpe(predicted[:, valid], target[:, valid])


class Trainer:
    """One training from fresh weights with one learning rate."""

    def __init__(self, data: Data, params: Mapping[str, Any], learning_rate: float, steps: int) -> None:
        stage.seed_everything(params["seed"])
        self.data, self.params, self.steps = data, params, steps
        # One stream a purpose: variants that differ in masking or in the GAN still see the same clips.
        self.clips3d, self.clips2d, self.masks, self.gan = (
            torch.Generator().manual_seed(4 * params["seed"] + stream) for stream in range(4)
        )
        self.lifter = Lifter({key: params[key] for key in _MODEL_KEYS} | {"map_size": data.map_size})
        self.lifter.mean_pose.copy_(data.train3d.mean_pose)
        self.lifter.to(params["device"])
        self.average = MovingAverage(self.lifter, params["ema_decay"])
        self.optimizer = torch.optim.Adam(self.lifter.parameters(), learning_rate, fused=True)
        schedulers = [self.optimizer]
        self.discriminator = None
        if params["discriminator"]:
            options = dict(params["discriminator"])
            self.objective, rate, betas = (options.pop(name) for name in ("objective", "rate", "betas"))
            self.discriminator = Discriminator(**options).to(params["device"])
            self.discriminator_optimizer = torch.optim.Adam(
                self.discriminator.parameters(), learning_rate * rate, betas=betas, fused=True
            )
            schedulers.append(self.discriminator_optimizer)
        self.schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, steps) for o in schedulers]
        # Two views of each stretch for every variant, so that the multi-view loss is the only difference it makes.
        self.samplers = [self._sampler(data.train3d, params["batch_clips"], True, self.clips3d, virtual=True)]
        if data.train2d:
            self.samplers.append(self._sampler(data.train2d, params["batch_clips_2d"], False, self.clips2d))
        if self.discriminator:
            real = self._sampler(data.train3d, 64, False, self.gan).draw().poses.to(params["device"])
            self.discriminator.fit_scales(losses.rotate(real, self._draw_rotations(len(real))))

    def _sampler(
        self, frames: Frames, clips: int, pairs: bool, generator: torch.Generator, virtual: bool = False
    ) -> Sampler:
        params = self.params
        # 2D labels cannot be turned in space.
        augmentation = {"flip": params["flip"], "rotate3d": 0.0 if frames.only_2d else params["rotate3d"]}
        if virtual:
            augmentation["virtual_views"] = params["virtual_views"]
        return Sampler(frames, clips, params["frames"], generator, pairs, **augmentation)

    def _draw_rotations(self, count: int) -> Tensor:
        return losses.random_rotations(count, self.gan).to(self.params["device"])

    def run(self, log: Logger) -> Trained:
        """Train all steps; returns the moving average of the weights, best on validation or last."""
        validate_every = self.params["validate_every"]
        best = Trained(self.average.model, self.discriminator, float("inf"))
        for step in stage.track_progress(range(1, self.steps + 1), "train lifter", self.steps):
            terms = self.step()
            if step % validate_every == 0 or step == self.steps:
                error = validation_mpjpe(self.average.model, self.data.validation)
                values = {f"loss_{name}": value.item() for name, value in terms.items()}
                log(step, values | {"validation_mpjpe_mm": 1000 * error})
                if error < best.validation_mpjpe or self.params["checkpoint"] == "last":
                    best = Trained(copy.deepcopy(self.average.model), copy.deepcopy(self.discriminator), error)
        return best

    def step(self) -> dict[str, Tensor]:
        """One update of the lifter, then one of the discriminator; returns the loss terms."""
        self.lifter.train()
        batches = [self._augmented(sampler.draw()) for sampler in self.samplers]
        predicted = [self.lifter(batch.observations) for batch in batches]
        terms = self._supervised(predicted[0], batches[0])
        if len(batches) > 1:
            terms["projection"] = self._projection(predicted[1], batches[1])
        fake = None
        if self.discriminator:
            fake = torch.cat(predicted)
            fake = losses.rotate(fake, self._draw_rotations(len(fake)))
            terms["adversarial"] = losses.generator_loss(self._judge(fake), self.objective)
        self.optimizer.zero_grad()
        losses.total_loss(terms, self.params["weights"]).backward()
        self.optimizer.step()
        self.average.update(self.lifter)
        if fake is not None:
            terms["discriminator"] = self._discriminator_step(batches[0].poses, fake.detach())
        for schedule in self.schedules:
            schedule.step()
        return {name: value.detach() for name, value in terms.items()}

    def _supervised(self, predicted: Tensor, batch: Batch) -> dict[str, Tensor]:
        unit = self.params["loss_unit"]
        terms = {"pose": losses.pose_loss(predicted, batch.poses, unit, batch.valid[:, None])}
        if self.params["weights"]["multi_view"] > 0:
            first, second = predicted.chunk(2)
            terms["multi_view"] = losses.multi_view_loss(first, second, *batch.rotations.chunk(2), unit)
        return terms

    def _projection(self, predicted: Tensor, batch: Batch) -> Tensor:
        unit, projection = self.params["loss_unit"], self.params["projection"]
        box = batch.observations.box
        return losses.projection_loss(predicted, batch.joints2d, batch.visible, box, unit, projection)

    def _augmented(self, batch: Batch) -> Batch:
        masking = self.params["masking"]
        if masking:
            shape = tuple(batch.observations.confidence.shape)
            corruption = draw_corruption(shape, masking, self.masks)
            observations = corrupt(batch.observations, corruption, self.data.map_size)
            batch = replace(batch, observations=observations)
        return batch.to(self.params["device"])

    def _judge(self, poses: Tensor) -> Tensor:
        """Logits through which the gradient reaches the poses but not the discriminator's weights."""
        self.discriminator.requires_grad_(False)
        logits = self.discriminator(poses)
        self.discriminator.requires_grad_(True)
        return logits

    def _discriminator_step(self, real: Tensor, fake: Tensor) -> Tensor:
        real = losses.rotate(real, self._draw_rotations(len(real)))
        loss = losses.discriminator_loss(self.discriminator, real, fake, self.objective, self.gan)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        return loss


def choose_learning_rate(data: Data, params: Mapping[str, Any], log: Logger) -> float:
    """Train every candidate for ``pilot_steps`` and return the one with the lowest validation error."""
    candidates = params["learning_rates"]
    if len(candidates) == 1:
        return candidates[0]
    pilot = dict(params) | {"validate_every": params["pilot_steps"]}
    errors = []
    for index, rate in enumerate(candidates):
        trained = Trainer(data, pilot, rate, params["pilot_steps"]).run(lambda *_: None)
        errors.append(trained.validation_mpjpe)
        log(index, {"pilot_learning_rate": rate, "pilot_validation_mpjpe_mm": 1000 * trained.validation_mpjpe})
    return candidates[int(np.argmin(errors))]


def train(data: Data, params: Mapping[str, Any], log: tracking.Log) -> Trained:
    """Choose the learning rate, train, and record the summary: errors in mm on validation."""
    rate = choose_learning_rate(data, params, log)
    trained = Trainer(data, params, rate, params["steps"]).run(log)
    log.summary(
        {
            "learning_rate": rate,
            "parameters": sum(p.numel() for p in trained.lifter.parameters()),
            "receptive_field": trained.lifter.tcn.receptive_field,
            "validation_mpjpe_mm": 1000 * trained.validation_mpjpe,
            "mean_pose_mpjpe_mm": 1000 * mean_pose_mpjpe(data.train3d.mean_pose.numpy(), data.validation),
        }
    )
    return trained


app = typer.Typer(add_completion=False)


@app.command()
def main(
    store: list[str] = stage.STORE_OPTION,
    train3d: Path = typer.Option(..., help="Detections of the clips with 3D ground truth."),
    train2d: Path | None = typer.Option(None, help="Detections of the clips of which only 2D labels are used."),
    validation: Path = typer.Option(..., help="Detections on which all choices are made."),
    output: Path = typer.Option(..., help="The lifter, safetensors."),
    discriminator: Path | None = typer.Option(None, help="The discriminator, safetensors."),
    record: Path = typer.Option(..., help="Run record, JSON."),
    key: str = typer.Option(..., help="Name of the run for good, such as demo/lifter/full/seed1."),
    mlflow: str | None = stage.MLFLOW_OPTION,
    params: str = stage.PARAMS_OPTION,
) -> None:
    """Train a lifter on detections with 3D (and 2D) labels."""
    options = stage.parse_params(params, PARAMETERS)
    if bool(options["discriminator"]) != bool(discriminator):
        raise UserError("--discriminator: give it exactly when params name a discriminator")
    stage.set_threads(options["threads"])
    stores = {name: Path(path) for name, path in stage.parse_named(store).items()}
    with_maps = options["embedding"]["kind"] in ("conv", "linear")
    data = load_data(train3d, train2d, validation, stores, with_maps)
    inputs = [train3d, validation, *([train2d] if train2d else [])]
    with tracking.run(key, record, options, inputs=inputs, uri=mlflow) as log:
        trained = train(data, options, log)
        trained.lifter.save(output)
        if discriminator:
            trained.discriminator.save(discriminator)


if __name__ == "__main__":
    stage.run(app)
