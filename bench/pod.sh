#!/bin/sh
# Runs a command as in a pod: with the files of its ServiceAccount, and with host names that lead to the stubs. FOLDER
# contains both. Only the command sees the mounts, and they end with it. Usage: pod.sh FOLDER COMMAND...
set -e
folder=$1
shift
mount --bind "$folder/hosts" /etc/hosts
mount -t tmpfs pod /run # /var/run is a link to it
mkdir -p /var/run/secrets/kubernetes.io
cp -r "$folder/serviceaccount" /var/run/secrets/kubernetes.io/
exec "$@"
