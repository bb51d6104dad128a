"""Test pods in a Kubernetes cluster.

Of the kubernetes package they need the asynchronous half. Its own ``__init__`` imports the other one too, with requests and
oauthlib: a controller would hold 7 MB of it for as long as it lives. So the package is there without that, for whoever
imports one of its modules after this.
"""

import sys
from importlib.util import find_spec, module_from_spec

if "kubernetes" not in sys.modules and (_package := find_spec("kubernetes")) is not None:
    sys.modules["kubernetes"] = module_from_spec(_package)
