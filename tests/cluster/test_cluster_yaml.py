"""`cluster.yaml` carries what Serve needs, to every node."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from rivet_ray_serve.environment import cluster_environment

CLUSTER: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "cluster.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("node", ["head", "worker"])
def test_every_node_starts_ray_in_the_same_environment(node: str) -> None:
    start = CLUSTER[f"{node}_start_ray_commands"][-1]
    assert start.startswith("ulimit -n 65536;")
    words = shlex.split(start.partition(";")[2])
    command = words.index("ray")
    given = dict(word.split("=", 1) for word in words[:command])
    assert given.pop("RIVET_CLUSTER_SECRET") == "$RIVET_CLUSTER_SECRET"
    assert given.pop("RIVET_STORE") == "$RIVET_STORE"
    assert given == cluster_environment()
    assert words[command : command + 2] == ["ray", "start"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_accepts_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(CLUSTER)
    validate_config(config)
