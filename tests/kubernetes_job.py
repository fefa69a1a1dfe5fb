"""Checks the Kubernetes job of the guide against Kubernetes' own schema, and prints what its pods
run: a JSON list of the command's words."""

import json
import sys

import kubernetes_validate
import yaml

for path in sys.argv[1:]:
    with open(path) as file:
        for resource in yaml.safe_load_all(file):
            version = kubernetes_validate.latest_version()
            kubernetes_validate.validate(resource, version, strict=True)
            if resource["kind"] == "Job":
                (container,) = resource["spec"]["template"]["spec"]["containers"]
                words = container["command"] + container["args"]
                shards = words[words.index("--shards") + 1]
                assert shards == str(resource["spec"]["completions"]), shards
                print(json.dumps(words))
