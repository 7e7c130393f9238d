"""A training on disk: one file of tensors and plain values, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from anytime_dnn_ros.evaluate.whole_file import write_whole

FORMAT = 1
DIGEST_BYTES = hashlib.sha256().digest_size


class CheckpointError(AnytimeError):
    """A checkpoint cannot be read."""


def save(path: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Saves a training.

    Args:
        path: The file to make or replace.
        identity: What the training is: plain values by name. `load` compares them.
        state: Where it stands: tensors and plain values.

    Raises:
        ConfigurationError: The disk refuses; an older checkpoint there is left as it was.
    """
    buffer = io.BytesIO()
    torch.save({'format': FORMAT, 'identity': dict(identity), 'state': dict(state)}, buffer)
    data = buffer.getvalue()
    # torch reads damaged tensors without a word, so the file ends with its own digest.
    write_whole(path, data + hashlib.sha256(data).digest())


def load(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Loads the state that `save` wrote; nothing but tensors and plain values is unpickled.

    Args:
        path: The checkpoint.
        identity: What the training to go on with is.

    Raises:
        CheckpointError: The file is missing, damaged or no checkpoint.
        ConfigurationError: It is of another training; the message names each difference.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f'no checkpoint can be read at {path} ({error.strerror}); start without --resume'
        ) from error
    data, digest = data[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(
            f'{path} is damaged or is no checkpoint (its sha256 is wrong); restore it from a '
            'copy, or start anew without --resume'
        )
    try:
        document = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f'{path} holds more than tensors and plain values') from error
    if document.get('format') != FORMAT:
        raise CheckpointError(
            f'{path} has checkpoint format {document.get("format")}, this version reads {FORMAT}; '
            'start anew without --resume'
        )
    saved = document['identity']
    differences = [
        f'{key}: {saved.get(key)} there, {identity.get(key)} here'
        for key in sorted({*saved, *identity})
        if saved.get(key) != identity.get(key)
    ]
    if differences:
        raise ConfigurationError(
            f'{path} is of another training ({"; ".join(differences)}); give the same options, '
            'or start anew without --resume'
        )
    state: dict[str, Any] = document['state']
    return state
