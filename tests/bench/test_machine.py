"""What a record says about the machine, and what it does not."""

import doctest
import json
import subprocess
from pathlib import Path

import numpy as np

import benchmarks.record
from edge_codec.bench import machine


def test_the_description_names_versions_and_no_place():
    found = machine.describe_machine(["scipy", "no-such-package"])
    assert found["numpy"] == np.__version__
    assert found["scipy"]
    assert found["no-such-package"] is None
    assert len(found["commit"]) == 40
    assert str(Path.cwd()) not in json.dumps(found)
    assert str(Path.home()) not in json.dumps(found)


def test_an_install_in_somebody_elses_repository_has_no_commit(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "__init__.py").touch()
    monkeypatch.setattr(machine, "PACKAGE", tmp_path)
    assert machine.checkout_commit() is None
    assert machine.describe_machine()["dirty"] is None


def test_examples():
    assert doctest.testmod(machine).failed == 0


def test_the_repositorys_records_use_the_same_description():
    assert benchmarks.record.describe_machine is machine.describe_machine
