"""How a network is trained: what decides its weights besides the architecture, the data and the seed."""

from math import cos, pi
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasseg.records import digest


class Recipe(BaseModel):
    """Read from a YAML mapping. `hash` names it; `learning_rate_at` is the schedule.

    crop_size: [height, width] at the camera's scale, null for the whole image.
    momentum: of SGD; AdamW's betas are (0.9, 0.999). weight_decay: not on biases, BatchNorm and other vectors.
    power: of the poly schedule, (1 - progress) ** power. warmup_steps: linear, before the schedule proper.
    scale_range: bounds of the random zoom. flip: left-right, every second image. jitter: brightness and contrast vary
    by up to this fraction. ema_decay: a moving average of weights and BatchNorm statistics is evaluated instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: int = Field(300, ge=1)
    batch_size: int = Field(8, ge=1)
    crop_size: tuple[int, int] | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: float = Field(0.9, gt=0)
    warmup_steps: int = Field(0, ge=0)
    scale_range: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    jitter: float = Field(0.0, ge=0, lt=1)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    channels_last: bool = True
    eval_batch_size: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        if self.crop_size is not None and min(self.crop_size) < 1:
            raise ValueError("crop_size is [height, width], both at least 1")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError("scale_range is [low, high], 0 < low <= high")
        if self.warmup_steps >= self.steps:
            raise ValueError("warmup_steps must be below steps")
        return self

    @property
    def hash(self) -> str:
        """A short hash of every field."""
        return digest(self.model_dump(mode="json"))

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, 0..steps - 1."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        if self.schedule == "poly":
            return float(self.learning_rate * (1 - progress) ** self.power)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + cos(pi * progress)) / 2
        return self.learning_rate
