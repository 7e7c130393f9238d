"""Small copies of the sysfs of boards, as far as the monitor reads it."""

from pathlib import Path


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write files under a root and return the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + '\n')
    return root


ORIN_NX = {
    # Jetson Linux r36: module power on the rail VDD_IN, one INA3221.
    'etc/nv_tegra_release': '# R36 (release), REVISION: 3.0',
    'sys/class/devfreq/17000000.gpu/cur_freq': '306000000',
    'sys/class/devfreq/17000000.gpu/max_freq': '918000000',
    'sys/class/devfreq/17000000.gpu/device/load': '345',
    'sys/class/devfreq/15340000.vic/cur_freq': '115200000',
    'sys/class/thermal/thermal_zone0/type': 'cpu-thermal',
    'sys/class/thermal/thermal_zone0/temp': '48312',
    'sys/class/thermal/thermal_zone1/type': 'gpu-thermal',
    'sys/class/thermal/thermal_zone1/temp': '51500',
    'sys/class/thermal/thermal_zone2/type': 'PMIC-Die',
    'sys/class/thermal/thermal_zone2/temp': '100000',
    'sys/class/thermal/thermal_zone3/type': 'cv0-thermal',
    'sys/class/thermal/cooling_device0/type': 'pwm-fan',
    'sys/class/thermal/cooling_device0/cur_state': '3',
    'sys/class/thermal/cooling_device1/type': 'cpu-throttle-alert',
    'sys/class/thermal/cooling_device1/cur_state': '0',
    'sys/class/thermal/cooling_device2/type': 'gpu-throttle-alert',
    'sys/class/thermal/cooling_device2/cur_state': '0',
    'sys/class/hwmon/hwmon1/name': 'ina3221',
    'sys/class/hwmon/hwmon1/in1_label': 'VDD_IN',
    'sys/class/hwmon/hwmon1/in1_input': '5000',
    'sys/class/hwmon/hwmon1/curr1_input': '1500',
    'sys/class/hwmon/hwmon1/in2_label': 'VDD_CPU_GPU_CV',
    'sys/class/hwmon/hwmon1/in2_input': '5000',
    'sys/class/hwmon/hwmon1/curr2_input': '400',
    'sys/class/hwmon/hwmon1/in7_label': 'sum of shunt voltages',
    'sys/class/hwmon/hwmon1/in7_input': '99',
    'sys/class/hwmon/hwmon3/name': 'soctherm_oc',
    'sys/class/hwmon/hwmon3/oc1_event_cnt': '0',
    'sys/class/hwmon/hwmon3/oc3_event_cnt': '37',
}

AGX_ORIN = {
    # No rail for the whole module: two INA3221, one channel not connected.
    'etc/nv_tegra_release': '# R35 (release), REVISION: 4.1',
    'sys/devices/platform/gpu.0/load': '1000',
    'sys/class/hwmon/hwmon3/name': 'ina3221',
    'sys/class/hwmon/hwmon3/in1_label': 'VDD_GPU_SOC',
    'sys/class/hwmon/hwmon3/in1_input': '19000',
    'sys/class/hwmon/hwmon3/curr1_input': '200',
    'sys/class/hwmon/hwmon3/in2_label': 'VDD_CPU_CV',
    'sys/class/hwmon/hwmon3/in2_input': '19000',
    'sys/class/hwmon/hwmon3/curr2_input': '100',
    'sys/class/hwmon/hwmon4/name': 'ina3221',
    'sys/class/hwmon/hwmon4/in1_label': 'NC',
    'sys/class/hwmon/hwmon4/in1_input': '19000',
    'sys/class/hwmon/hwmon4/curr1_input': '5000',
}

THOR = {
    'proc/device-tree/compatible': 'nvidia,p3971\x00nvidia,tegra264\x00',
    'sys/class/devfreq/gpu-gpc-0/cur_freq': '787500000',
    'sys/class/devfreq/gpu-gpc-0/max_freq': '1575000000',
    'sys/class/hwmon/hwmon5/name': 'ina238',
    'sys/class/hwmon/hwmon5/power1_input': '42500000',
}

PRESSURE = {
    'proc/pressure/cpu': (
        'some avg10=12.50 avg60=3.00 avg300=1.00 total=123456\n'
        'full avg10=0.00 avg60=0.00 avg300=0.00 total=0'
    ),
    'proc/pressure/memory': (
        'some avg10=0.75 avg60=0.10 avg300=0.00 total=42\n'
        'full avg10=0.50 avg60=0.00 avg300=0.00 total=7'
    ),
}
