"""A training on disk: one file of tensors and plain values, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from anytime_dnn_ros.whole_file import write_whole

FORMAT = 1
DIGEST_BYTES = hashlib.sha256().digest_size


class CheckpointError(AnytimeError):
    """A checkpoint cannot be read."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training as it was saved.

    Attributes:
        path: The file.
        identity: What the training is: plain values by name.
        options: What its command was asked for; None if it was saved before options were kept.
        state: Where it stands: tensors and plain values.
    """

    path: Path
    identity: dict[str, Any]
    options: dict[str, Any] | None
    state: dict[str, Any]

    def state_of(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """The state, if the training is the one that `identity` says.

        Raises:
            ConfigurationError: It is another one; the message names each difference.
        """
        found = differences(self.identity, identity)
        if found:
            raise ConfigurationError(
                f'{self.path} is of another training ({found}); give the same options and data'
            )
        return self.state

    @property
    def weights(self) -> dict[str, Tensor]:
        """What the training has come to: the best, else the average, else the newest weights.

        Of several snapshots it is the newest.
        """
        kept = (self.state[name] for name in ('best', 'average', 'net'))
        return next(weights for weights in kept if weights is not None)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Each value in which two identities differ; '' = none."""
    return '; '.join(
        f'{key}: {there.get(key)} there, {here.get(key)} here'
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    )


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Names and values of a network's state, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def save(
    path: Path,
    identity: Mapping[str, Any],
    state: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Saves a training.

    Args:
        path: The file to make or replace.
        identity: What the training is: plain values by name. `load` compares them.
        state: Where it stands: tensors and plain values.
        options: What its command was asked for: plain values by name.

    Raises:
        ConfigurationError: The disk refuses; an older checkpoint there is left as it was.
    """
    buffer = io.BytesIO()
    document = {'format': FORMAT, 'identity': dict(identity), 'state': dict(state)}
    torch.save(document | ({} if options is None else {'options': dict(options)}), buffer)
    data = buffer.getvalue()
    # torch reads damaged tensors without a word, so the file ends with its own digest.
    write_whole(path, data + hashlib.sha256(data).digest())


def load(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the state that `save` wrote, to go on with it.

    Args:
        path: The checkpoint.
        identity: What the training to go on with is.

    Raises:
        CheckpointError: The file is missing, damaged or no checkpoint.
        ConfigurationError: It is of another training; the message names each difference.
    """
    try:
        return read(path).state_of(identity)
    except (CheckpointError, ConfigurationError) as error:
        raise type(error)(f'{error}; a new training starts without --resume') from error


def read(path: Path) -> Checkpoint:
    """Reads what `save` wrote; nothing but tensors and plain values is unpickled.

    Raises:
        CheckpointError: The file is missing, damaged or no checkpoint.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f'no checkpoint can be read at {path} ({error.strerror}): a training of DIR keeps it '
            'as DIR.train/checkpoint.pt'
        ) from error
    data, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(
            f'{path} is damaged or is no checkpoint (its sha256 is wrong); restore it from a copy'
        )
    try:
        document = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f'{path} holds more than tensors and plain values, which no checkpoint does; '
            'give one that `anytime-dnn train` left'
        ) from error
    if document.get('format') != FORMAT:
        raise CheckpointError(
            f'{path} has checkpoint format {document.get("format")}, this version reads {FORMAT}; '
            'give one of a training by this version'
        )
    return Checkpoint(path, document['identity'], document.get('options'), document['state'])
