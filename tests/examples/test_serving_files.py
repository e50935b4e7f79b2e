"""examples/serving: container file, compose file and Prometheus settings fit each other and the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from earl.cli import table

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "serving"
CONTAINER = (FOLDER / "Containerfile").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
BUILT = {name: service for name, service in COMPOSE["services"].items() if "build" in service}


def test_the_container_copies_what_is_there_and_declares_what_it_uses():
    copied = re.findall(r"^COPY (.+) \S+$", CONTAINER, re.M)
    assert copied and all((ROOT / name).exists() for line in copied for name in line.split())
    declared = set(re.findall(r"^ARG (\w+)", CONTAINER, re.M))
    assert set(re.findall(r"\$\{(\w+)\}", CONTAINER)) == declared == {"TORCH_ARGS", "EXTRAS"}
    extras = set((ROOT / "pyproject.toml").read_text().partition("optional-dependencies]")[2].split())
    for build in [CONTAINER, *(yaml.dump(service) for service in BUILT.values())]:
        for named in re.findall(r"EXTRAS[=:] ?\"?([\w,]+)", build):
            assert set(named.split(",")) <= extras
    assert CONTAINER.index("USER earl") < CONTAINER.index("ENTRYPOINT"), "not as root"


@pytest.mark.parametrize("name", BUILT)
def test_the_services_are_commands_of_ours(name):
    service = BUILT[name]
    entry = json.loads(re.search(r"^ENTRYPOINT (.+)$", CONTAINER, re.M)[1])
    assert callable(table.parse([*entry[1:], *service["command"]]))
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert [port.split(":")[-1] for port in service["ports"]] == re.findall(
        r"^EXPOSE (\d+)$", CONTAINER, re.M
    )
    assert set(service["build"].get("args", {})) <= set(re.findall(r"^ARG (\w+)", CONTAINER, re.M))


def test_prometheus_asks_every_service():
    (volume,) = COMPOSE["services"]["prometheus"]["volumes"]
    asked = yaml.safe_load((FOLDER / volume.split(":")[0]).read_text())["scrape_configs"]
    targets = [target for job in asked for part in job["static_configs"] for target in part["targets"]]
    assert sorted(targets) == sorted(f"{name}:8000" for name in BUILT)
    volumes = [v.split(":")[0] for service in BUILT.values() for v in service.get("volumes", [])]
    assert set(volumes) <= set(COMPOSE["volumes"])
