"""The controller that runs in a cluster."""

from __future__ import annotations

import logging
import os

import click


@click.command("controller")
def controller_command() -> int:
    """Bring every TestRun of the cluster to its end, until SIGTERM. Its Deployment runs this: docs/controller.md.

    Settings come from the environment: PODCTL_STORE_URL, PODCTL_IMAGE, PODCTL_MAX_PODS, PODCTL_SOURCES, PODCTL_KEYS,
    PODCTL_UPSTREAMS, PODCTL_NAMESPACE, PODCTL_STATE, PODCTL_PORT.

    \b
    podctl controller
    """
    from podctl.controller.operator import Settings, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "kopf", "kubernetes"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    serve(Settings.of(os.environ))
    return 0
