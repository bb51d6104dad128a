"""Plans: what they leave, in which order, from whatever is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podctl.pods.plan import PodSpec, Resource, advance, batches, desired, steps, teardown
from podctl.spec.models import Topology

TOPOLOGY = Topology.model_validate(
    {
        "apiVersion": "podctl/v1",
        "kind": "Topology",
        "name": "t",
        "databases": {
            "a-db": {"name": "a"},
            "b-db": {"name": "b"},
            "gone-db": {"name": "g", "mode": "left-out", "reason": "x"},
        },
        "services": {
            "web": {"command": ["x"], "depends_on": ["api", "a-db"]},
            "api": {"command": ["x"], "depends_on": ["a-db"]},
            "other": {"command": ["x"]},
            "stub": {"mode": "stubbed", "routes": [{"path": "/"}]},
            "missing": {"mode": "left-out", "reason": "x"},
        },
    }
)

RESOURCES = st.sampled_from([*desired(PodSpec("p", "r", TOPOLOGY)), Resource("service", "old"), Resource("database", "old")])
OBSERVED = st.dictionaries(RESOURCES, st.integers(1, 4))


def apply(plan, observed):  # type: ignore[no-untyped-def]
    for step in plan:
        observed = advance(observed, step)
    return observed


@given(OBSERVED, st.integers(1, 4), st.booleans())
def test_the_plan_of_an_applied_plan_is_empty(observed: dict[Resource, int], generation: int, share: bool) -> None:
    spec = PodSpec("p", "r", TOPOLOGY, generation, share)
    after = apply(steps(spec, observed), observed)
    assert steps(spec, after) == []
    assert after == desired(spec)


@given(st.integers(0, 20), st.integers(1, 3))
def test_teardown_from_any_prefix_ends_empty(length: int, generation: int) -> None:
    observed = apply(steps(PodSpec("p", "r", TOPOLOGY, generation), {})[:length], {})
    assert apply(teardown(observed), observed) == {}


@given(OBSERVED, st.integers(1, 4))
def test_batches_are_the_same_steps_and_no_service_stands_beside_what_it_needs(
    observed: dict[Resource, int], generation: int
) -> None:
    plan = steps(PodSpec("p", "r", TOPOLOGY, generation), observed)
    grouped = batches(plan, TOPOLOGY)
    assert [step for batch in grouped for step in batch] == plan
    for batch in grouped:
        names = {step.resource.name for step in batch if step.action == "make"}
        for step in batch:
            if step.action == "make" and step.resource.kind == "service":
                assert not names & set(TOPOLOGY.services[step.resource.name].depends_on)


def test_a_new_pod_makes_databases_before_services_and_services_before_their_dependants() -> None:
    made = [str(step.resource) for step in steps(PodSpec("p", "r", TOPOLOGY), {})]
    assert made[:4] == ["directory", "network", "database/a-db", "database/b-db"]
    assert made.index("service/api") < made.index("service/web")
    assert made[-1] == "door"
    assert not any("missing" in name or "gone" in name for name in made)


def test_the_next_generation_stops_services_before_it_resets_their_databases() -> None:
    before = desired(PodSpec("p", "r", TOPOLOGY, 1))
    plan = [str(step) for step in steps(PodSpec("p", "r", TOPOLOGY, 2), before)]
    last_stop = max(plan.index(step) for step in plan if step.startswith("remove service"))
    first_reset = min(plan.index(step) for step in plan if step.startswith("reset database"))
    first_start = min(plan.index(step) for step in plan if step.startswith("make service"))
    assert last_stop < first_reset < first_start
    assert plan.index("remove service/web") < plan.index("remove service/api")
    assert not any("stub" in step for step in plan)


def test_shared_services_keep_running_while_databases_are_reset() -> None:
    before = desired(PodSpec("p", "r", TOPOLOGY, 1, share_services=True))
    plan = [str(step) for step in steps(PodSpec("p", "r", TOPOLOGY, 2, share_services=True), before)]
    assert plan == ["reset database/a-db", "reset database/b-db"]
