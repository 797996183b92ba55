"""Sensors on made-up machines."""

import sys
import types

import pytest

from edge_codec.runtime.telemetry.energy import EnergyMeter
from edge_codec.runtime.telemetry.jetson import JetsonStats
from edge_codec.runtime.telemetry.nvidia import NvidiaGpus
from edge_codec.runtime.telemetry.sensors import Sensors


def put(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


@pytest.fixture
def server(tmp_path):
    """A server: thermal zones, a hwmon chip, cpufreq, RAPL."""
    for number, (kind, value) in enumerate(
        [("x86_pkg_temp", 47000), ("acpitz", "nonsense"), ("n", "nan")]
    ):
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/type", kind)
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", value)
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "coretemp")
    put(tmp_path, "sys/class/hwmon/hwmon0/temp1_input", 46500)
    put(tmp_path, "sys/class/hwmon/hwmon0/temp1_label", "Package id 0")
    put(tmp_path, "sys/class/hwmon/hwmon0/temp2_input", 45000)
    put(tmp_path, "sys/class/hwmon/hwmon0/power1_average", 31_500_000)
    for cpu in range(2):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        put(tmp_path, f"{folder}/scaling_cur_freq", 3_400_000 + cpu)
        put(tmp_path, f"{folder}/scaling_governor", "performance")
    put(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", 0)
    for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core")):
        put(tmp_path, f"sys/class/powercap/{zone}/name", name)
        put(tmp_path, f"sys/class/powercap/{zone}/energy_uj", 1_000_000)
        put(tmp_path, f"sys/class/powercap/{zone}/max_energy_range_uj", 60_000_000)
    return tmp_path


@pytest.fixture
def jetson(tmp_path):
    """A Jetson: rails of an INA3221 found below the I2C bus alone, a GPU's clock."""
    rails = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    put(tmp_path, f"{rails}/name", "ina3221")
    for number, (label, volts, amperes) in enumerate(
        [("VDD_IN", 19.0, 0.5), ("VDD_CPU_GPU_CV", 19.0, 0.1)], start=1
    ):
        put(tmp_path, f"{rails}/in{number}_label", label)
        put(tmp_path, f"{rails}/in{number}_input", round(1e3 * volts))
        put(tmp_path, f"{rails}/curr{number}_input", round(1e3 * amperes))
    put(tmp_path, f"{rails}/curr4_input", 100)  # a sum without a voltage
    put(tmp_path, "sys/class/devfreq/17000000.gpu/cur_freq", 918_000_000)
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0000")
    return tmp_path


def test_a_server(server):
    found = Sensors(server, sources=[]).read()
    assert found["temperature_c"] == {
        "x86_pkg_temp": 47.0, "Package id 0": 46.5, "coretemp-temp2": 45.0,
    }  # fmt: skip
    assert found["power_w"] == {"coretemp-power1": 31.5}
    assert found["clock_mhz"] == {"cpu0": 3400.0, "cpu1": 3400.001}
    assert found["settings"] == {"governor": "performance", "turbo": "on"}


def test_a_jetson(jetson):
    sensors = Sensors(jetson, sources=[])
    found = sensors.read()
    assert found["power_w"] == pytest.approx({"VDD_IN": 9.5, "VDD_CPU_GPU_CV": 1.9})
    assert found["clock_mhz"] == {"17000000.gpu": 918.0}
    assert found["settings"] == {"power_mode": "pmode:0000"}
    assert sensors.total_power_w() == pytest.approx(9.5)


def test_rails_that_two_folders_show_are_read_once(jetson):
    place = jetson / "sys/class/hwmon"
    place.mkdir(parents=True)
    rails = jetson / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    (place / "hwmon3").symlink_to(rails)
    (rails / "temp1_input").write_text("40000\n")
    found = Sensors(jetson, sources=[]).read()
    assert found["temperature_c"] == {"ina3221-temp1": 40.0}


def test_a_virtual_machine_and_one_that_tells_nothing(tmp_path):
    assert Sensors(tmp_path, sources=[]).read() == {}
    put(tmp_path, "proc/cpuinfo", "model name\t: X\ncpu MHz\t\t: 2499.998\ncpu MHz\t\t: ?")
    assert Sensors(tmp_path, sources=[]).read() == {"clock_mhz": {"cpu0": 2499.998}}


def test_energy_goes_on_where_a_counter_ran_over(server):
    sensors = Sensors(server, sources=[])
    meter = EnergyMeter(sensors)
    for microjoules, joules in ((1_500_000, 0.5), (59_000_000, 58.0), (2_000_000, 61.0)):
        put(server, "sys/class/powercap/intel-rapl:0/energy_uj", microjoules)
        assert meter.look() == {"package-0": pytest.approx(joules)}
    (server / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert meter.look() == {"package-0": pytest.approx(61.0)}


def test_energy_of_a_board_without_a_counter(jetson):
    now = [0]
    meter = EnergyMeter(Sensors(jetson, sources=[]), lambda: now[0])
    now[0] = 2 * 10**9
    assert meter.look() == {"board": pytest.approx(19.0)}
    put(jetson, "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/curr1_input", 1000)  # 19 W
    now[0] = 3 * 10**9
    assert meter.look() == {"board": pytest.approx(19.0 + (9.5 + 19.0) / 2)}


def test_no_energy_where_nothing_tells(tmp_path):
    assert EnergyMeter(Sensors(tmp_path, sources=[])).look() == {}


def fake_nvml(**answers):
    """A library for one GPU that knows some answers and fails at all other questions."""

    def unsupported(*arguments):
        raise RuntimeError("Not Supported")

    module = types.ModuleType("pynvml")
    module.__getattr__ = lambda name: answers.get(name, unsupported)
    return module


def test_an_nvidia_gpu(monkeypatch):
    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetTemperature": lambda gpu, kind: 61,
        "nvmlDeviceGetPowerUsage": lambda gpu: 70_500,
        "nvmlDeviceGetClockInfo": lambda gpu, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 700_000,
        "nvmlDeviceGetName": lambda gpu: b"NVIDIA X",
        "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: 5_500,
    }
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(**answers))
    gpus = NvidiaGpus()
    assert gpus.read() == {
        "temperature_c": {"gpu0": 61.0},
        "power_w": {"gpu0": 70.5},
        "clock_mhz": {"gpu0-sm": 1980.0, "gpu0-memory": 2619.0},
        "settings": {"gpu0_power_limit": "700 W", "gpu0_model": "NVIDIA X"},
    }
    assert gpus.energy_j() == {"gpu0": 5.5}


def test_no_nvidia_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml())
    gpus = NvidiaGpus()
    assert (gpus.read(), gpus.energy_j()) == ({}, {})


class FakeJtop:
    def __init__(self):
        cores = {"temp": 48.2, "online": True}
        self.temperature = {"cpu": cores, "cv0": {"temp": -256, "online": False}}
        self.power = {"rail": {"VDD_IN": {"power": 5200}}, "tot": {"power": 5250}}
        self.nvpmodel = "MAXN"

    def start(self):
        pass


def test_jtop_where_its_service_runs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=FakeJtop))
    sensors = Sensors(tmp_path, sources=[JetsonStats()])
    assert sensors.read() == {
        "temperature_c": {"cpu": 48.2},
        "power_w": {"VDD_IN": 5.2, "total": 5.25},
        "settings": {"power_mode": "MAXN"},
    }
    assert sensors.total_power_w() == 5.25


def test_jtop_without_its_service(monkeypatch):
    class Refused(FakeJtop):
        def start(self):
            raise ConnectionError("no service")

    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Refused))
    assert JetsonStats().read() == {}

    class Gone(FakeJtop):
        def __init__(self):
            self.temperature = None

    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Gone))
    assert JetsonStats().read() == {}
