#!/bin/sh
# A script for comparison, as an operator might write it: checks each labelled workload once, with kubectl and crane.
set -e
export SSL_CERT_FILE="$NODE_EXTRA_CA_CERTS" # Go reads the CA from another variable than Node
all='{range .items[*]}{.metadata.namespace} {.kind} {.metadata.name} {.spec.template.spec.containers[0].image}{"\n"}{end}'
running='{.items[*].status.containerStatuses[0].imageID}'
kubectl get deployments,statefulsets,daemonsets -A -l figwasp/target=true -o jsonpath="$all" |
  while read -r namespace kind name image; do
    resolved=$(crane digest "$image")
    for id in $(kubectl get pods -n "$namespace" -l "app.kubernetes.io/name=$name" -o jsonpath="$running"); do
      if [ "${id##*@}" != "$resolved" ]; then
        kubectl rollout restart -n "$namespace" "$kind/$name"
        break
      fi
    done
  done
