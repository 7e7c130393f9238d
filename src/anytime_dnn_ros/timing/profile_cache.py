"""Reference times kept on the machine they were measured on, from one start to the next."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

import anytime_dnn_ros
from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.ladder.manifest import manifest_to_json, quality_to_json
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.whole_file import keep_whole

# What the option and the parameter `cache_dir` say for "keep nothing".
NO_CACHE = 'none'
# Rounds of a profile, where its time suffices, and of the check whether a kept one still holds.
PROFILE_RUNS, CHECK_RUNS = 100, 5
LEAST_RUNS = 2
# Below this share of the kept time the machine was busy when it was measured: clocks and chance
# move the median of five rounds by a tenth.
CLEARLY_FASTER = 0.85
# No load makes a machine this many times slower, so the kept times are not this machine's.
BEYOND_ANY_LOAD = 50.0
# Shorter or longer, it was not a stage of a network.
BELIEVABLE_S = (1e-8, 600.0)
MAX_FILE_BYTES = 16 * 2**20
CPU_INFO = Path('/proc/cpuinfo')

Say = Callable[[str], object]


def cache_folder(cache_dir: str, say: Say) -> Path | None:
    """Where profiles are kept; nothing is made yet.

    Args:
        cache_dir: A folder, empty for the usual place (XDG: `$XDG_CACHE_HOME` or `~/.cache`), or
            `NO_CACHE`.
        say: Takes a warning.

    Returns:
        None where nothing is to be kept.

    Raises:
        ConfigurationError: The folder is that of a user who does not exist.
    """
    if cache_dir == NO_CACHE:
        return None
    try:
        if cache_dir:
            return Path(cache_dir).expanduser().absolute()
        named = Path(os.environ.get('XDG_CACHE_HOME', ''))
        # The XDG base directory specification: a relative path there counts for nothing.
        base = named if named.is_absolute() else Path.home() / '.cache'
    except RuntimeError as error:
        if cache_dir:
            raise ConfigurationError(
                f'cache_dir = {cache_dir!r} cannot be used: {error}; name a folder, or '
                f'{NO_CACHE!r} to keep nothing'
            ) from error
        say(f'stage times are not kept: {error}; name a folder with cache_dir')
        return None
    return base / 'anytime_dnn_ros'


def profile_key(bundle: Bundle, engine: EngineInfo, frame_shape: Sequence[int]) -> dict[str, Any]:
    """Everything that reference times depend on, in values that JSON gives back as they were.

    Args:
        bundle: Its stages (by their sha256), wiring, resize, combination and quality data count.
        engine: That bundle, loaded.
        frame_shape: Of the frame that the stages are timed on, [H, W, C].
    """
    quality = '' if bundle.quality is None else quality_to_json(bundle.quality)
    text = manifest_to_json(bundle.manifest) + quality
    key = {
        'bundle': bundle.manifest.name,
        'bundle_sha256': hashlib.sha256(text.encode()).hexdigest(),
        # Why it was chosen makes it no faster.
        'engine': asdict(replace(engine, reason='', is_degraded=False)),
        'cpu': _cpu_model(),
        'cores': os.cpu_count(),
        'package': anytime_dnn_ros.__version__,
        'frame_shape': list(frame_shape),
    }
    return dict(json.loads(json.dumps(key)))


def profile_file(key: Mapping[str, Any], folder: Path) -> Path:
    """Where the reference times of a key are kept."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f'stage_times_{digest[:32]}.json'


def cached_reference_times(
    measure: Callable[[int], ReferenceTimes],
    key: Mapping[str, Any],
    folder: Path | None,
    *,
    say: Say,
    runs: int = PROFILE_RUNS,
    least_runs: int = LEAST_RUNS,
) -> tuple[ReferenceTimes, bool]:
    """The times kept under a key if they can be believed, else newly measured ones, then kept.

    A few rounds are run even so: kept times that are clearly longer than these were measured under
    load and are measured anew. Shorter ones hold: being slower now is load, which the slowdown
    filter takes care of.

    Args:
        measure: Times all stages in so many rounds.
        key: From `profile_key`.
        folder: From `cache_folder`; None measures always and keeps nothing.
        say: Takes a warning; nothing here fails because of the cache.
        runs: Rounds of a new measurement.
        least_runs: Kept times of fewer rounds are measured anew.

    Returns:
        The times, and whether they were kept ones.
    """
    if folder is None:
        return measure(runs), False
    file = profile_file(key, folder)
    kept = _read(file, key, say)
    if kept is not None and len(kept.samples_s) >= least_runs:
        doubt = _doubt(kept, measure(CHECK_RUNS))
        if not doubt:
            return kept, True
        say(f'the stage times in {file} {doubt}; they are measured anew')
    times = measure(runs)
    store_reference_times(times, key, folder, say=say)
    return times, False


def store_reference_times(
    times: ReferenceTimes, key: Mapping[str, Any], folder: Path, *, say: Say
) -> None:
    """Keeps times under their key, whole or not at all; says so where the disk refuses.

    Args:
        times: Newly measured.
        key: From `profile_key`.
        folder: From `cache_folder`; made, for this user alone, if it is not there.
        say: Takes a warning.
    """
    document = {
        'key': key,
        'cpu_percent': times.cpu_percent if isfinite(times.cpu_percent) else None,
        'samples_s': times.samples_s.tolist(),
    }
    text = json.dumps(document, allow_nan=False)
    try:
        keep_whole(profile_file(key, folder), [text.encode()])
    except OSError as error:
        say(
            f'the stage times cannot be kept in {folder} ({error.strerror}), so each start '
            'measures them; make it writable or make room, or name another folder with cache_dir'
        )


def _read(file: Path, key: Mapping[str, Any], say: Say) -> ReferenceTimes | None:
    """The times in a file; None where there is none, or none that can be believed."""
    try:
        size = file.stat().st_size
        # Not a pipe, say, which would never end.
        if not file.is_file() or size > MAX_FILE_BYTES:
            raise ValueError('it is no file of ours')
        return _times(json.loads(file.read_text(encoding='utf-8')), key)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        say(f'the stage times in {file} cannot be used ({error}); they are measured anew')
        return None


def _times(document: Any, key: Mapping[str, Any]) -> ReferenceTimes:
    """What a file says.

    Raises:
        ValueError: It is of another key, or absurd.
    """
    if not isinstance(document, dict) or document.get('key') != key:
        raise ValueError('another bundle, engine, machine or version')
    samples = np.array(document.get('samples_s'))
    stages = len(key['engine']['stages'])
    low, high = BELIEVABLE_S
    if (
        samples.dtype != np.float64
        or samples.ndim != 2
        or samples.shape[1] != stages
        or len(samples) < LEAST_RUNS
        # NaN is in no range.
        or not ((samples >= low) & (samples <= high)).all()
    ):
        raise ValueError(f'not {LEAST_RUNS} or more rounds of {stages} believable times')
    load = document.get('cpu_percent')
    if load is None:
        return ReferenceTimes(samples)
    if isinstance(load, bool) or not isinstance(load, (int, float)) or not 0 <= load <= 100:
        raise ValueError(f'a load of {load!r} percent')
    return ReferenceTimes(samples, float(load))


def _doubt(kept: ReferenceTimes, now: ReferenceTimes) -> str:
    """What a few rounds say against kept times; empty if nothing."""
    kept_s, now_s = (float(np.median(t.samples_s.sum(axis=1))) for t in (kept, now))
    both = f'{1e3 * now_s:.3g} ms for all stages, not {1e3 * kept_s:.3g}'
    if now_s < CLEARLY_FASTER * kept_s:
        return f'were measured under load (now it is {both})'
    if now_s > BEYOND_ANY_LOAD * kept_s:
        return f'are too short to be believed (now it is {both})'
    return ''


def _cpu_model() -> str:
    """The processor in the kernel's words; ARM gives numbers, of each kind of core."""
    try:
        text = CPU_INFO.read_text(encoding='utf-8', errors='replace')
    except OSError:
        text = ''
    names = re.findall(r'^(?:model name|Model)\s*: (.+)$', text, re.MULTILINE)
    parts = re.findall(r'^CPU (?:implementer|part)\s*: .+$', text, re.MULTILINE)
    words = {' '.join(line.replace(':', '').split()) for line in names + parts}
    return ', '.join(sorted(words)) or platform.machine()
