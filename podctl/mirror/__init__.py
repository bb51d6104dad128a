"""Topologies from what runs already: Compose files, Kubernetes manifests, a live namespace."""
