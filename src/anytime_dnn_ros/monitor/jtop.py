"""What jetson-stats tells, where its owner installed it (AGPL-3.0, a root service): a plug-in.

It only fills what sysfs left open. Its Python interface: `jtop.gpu[name]['status']['load']` in
percent, `jtop.power['tot']['power']` in mW, `jtop.temperature[name]['temp']` in degrees.
"""

from collections.abc import Callable
from typing import Any

from anytime_dnn_ros.errors import MissingDependencyError
from anytime_dnn_ros.monitor.probe import Probe, Reading

_EVERY_S = 0.5


def jtop_probes() -> list[Probe]:
    """Return the probes of a jtop service; none where jetson-stats is not installed.

    Raises:
        MissingDependencyError: jetson-stats is installed, but its service does not answer.
    """
    try:
        from jtop import jtop  # noqa: PLC0415  (a plug-in, never a dependency)
    except ImportError:
        return []
    client: Any = jtop(interval=_EVERY_S)
    # The client is a thread; as a daemon it cannot hold up our exit.
    client.daemon = True
    try:
        client.start()
    except Exception as error:
        raise MissingDependencyError(
            f'jtop does not answer ({error}): sudo systemctl restart jtop.service'
        ) from error

    def alive(read: Callable[[], Reading]) -> Callable[[float], Reading]:
        def checked(_now_s: float) -> Reading:
            if not client.is_alive():
                # Its last figures would stay for ever.
                raise MissingDependencyError('the jtop service went away')
            return read()

        return checked

    def gpu() -> Reading:
        return {'gpu_percent': max(float(g['status']['load']) for g in client.gpu.values())}

    def power() -> Reading:
        return {'power_w': client.power['tot']['power'] / 1000.0}

    def temperature() -> Reading:
        zones = client.temperature.values()
        return {'temperature_c': max(float(z['temp']) for z in zones if z.get('online', True))}

    return [
        Probe('jtop', name, alive(read), _EVERY_S)
        for name, read in (('GPU load', gpu), ('power', power), ('temperature', temperature))
    ]
