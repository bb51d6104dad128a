"""Kinds of objects and keys of what runs that say nothing to a test pod, and why. PURE."""

from __future__ import annotations

CONFINED = "a pod's services are confined in podctl's own way"
RUNS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Pod", "Rollout", "DeploymentConfig")
JOBS = ("Job", "CronJob")
CONFINED = "a pod's services are confined in podctl's own way"
#: Kinds that a test pod has no use for -> why.
OTHERS = {
    "Ingress": "agents reach services through podctl's doors",
    "IngressClass": "agents reach services through podctl's doors",
    "Gateway": "agents reach services through podctl's doors",
    "HTTPRoute": "agents reach services through podctl's doors",
    "VirtualService": "agents reach services through podctl's doors",
    "ServiceEntry": "what is outside of a pod is not reached",
    "Route": "agents reach services through podctl's doors",
    "HorizontalPodAutoscaler": "a pod has one of each",
    "PodDisruptionBudget": "a pod has one of each",
    "NetworkPolicy": "a pod is closed in podctl's own way",
    "ServiceAccount": "services have no identity in a pod",
    "Role": "services have no identity in a pod",
    "RoleBinding": "services have no identity in a pod",
    "ClusterRole": "services have no identity in a pod",
    "ClusterRoleBinding": "services have no identity in a pod",
    "PersistentVolumeClaim": "each service that has it gets an empty directory of its own",
    "PersistentVolume": "each service that has it gets an empty directory of its own",
    "StorageClass": "volumes are in memory in a pod",
    "Namespace": "a pod is closed in podctl's own way",
    "CustomResourceDefinition": "operators do not run in a pod",
    "PriorityClass": "a pod's services have limits of their own",
    "LimitRange": "a pod's services have limits of their own",
    "ResourceQuota": "a pod's services have limits of their own",
    "ServiceMonitor": "podctl records what happens in a pod",
    "PodMonitor": "podctl records what happens in a pod",
    "PrometheusRule": "podctl records what happens in a pod",
    "SealedSecret": "secrets are not read",
    "ExternalSecret": "secrets are not read",
}
OF_POD = {
    "serviceAccountName": "services have no identity in a pod",
    "serviceAccount": "services have no identity in a pod",
    "automountServiceAccountToken": "services have no identity in a pod",
    "restartPolicy": "a service that ends fails the attempt, which is made again in another pod",
    "terminationGracePeriodSeconds": "services are killed at the end of an attempt",
    "imagePullSecrets": "the engine has to be able to pull the image",
    "hostNetwork": CONFINED,
    "hostPID": CONFINED,
    "hostIPC": CONFINED,
    "hostAliases": "a pod knows its own names alone",
    "dnsPolicy": "nobody is asked for a name in a pod",
    "dnsConfig": "nobody is asked for a name in a pod",
    "shareProcessNamespace": "one container runs of each",
    "runtimeClassName": "PODCTL_DOCKER_RUNTIME names a runtime for every container",
    "enableServiceLinks": "variables of Services are not set",
    **dict.fromkeys(
        (
            "nodeSelector",
            "affinity",
            "tolerations",
            "topologySpreadConstraints",
            "priorityClassName",
            "priority",
            "schedulerName",
            "nodeName",
        ),
        "a pod is in one place",
    ),
}
OF_CONTAINER = {
    "imagePullPolicy": "the engine pulls what it does not have",
    "livenessProbe": "nothing is started again in a pod",
    "lifecycle": "hooks are not run",
    "terminationMessagePath": "podctl keeps what services print",
    "terminationMessagePolicy": "podctl keeps what services print",
    "tty": "services have no terminal",
    "stdin": "services have no input",
    "stdinOnce": "services have no input",
    "volumeDevices": f"{CONFINED}: no device",
    "resizePolicy": "limits stay",
    "restartPolicy": "nothing is started again in a pod",
}
OF_SPEC = {
    "strategy": "a pod has one of each",
    "updateStrategy": "a pod has one of each",
    "revisionHistoryLimit": "a pod has one of each",
    "progressDeadlineSeconds": "a pod has one of each",
    "podManagementPolicy": "a pod has one of each",
    "minReadySeconds": "podctl waits until it is ready",
    "paused": "a pod has one of each",
    "triggers": "a pod has one of each",
    "test": "a pod has one of each",
    "ordinals": "a pod has one of each",
    "persistentVolumeClaimRetentionPolicy": "volumes are gone with the attempt",
}
