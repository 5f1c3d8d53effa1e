#!/bin/sh
# Runs a command as a pod would: with the files of its ServiceAccount, and names that lead to the stubs. The folder holds
# both; the mounts are seen by the command alone, and end with it. Usage: pod.sh FOLDER COMMAND...
set -e
folder=$1
shift
mount --bind "$folder/hosts" /etc/hosts
mount -t tmpfs pod /run # where /var/run leads
mkdir -p /var/run/secrets/kubernetes.io
cp -r "$folder/serviceaccount" /var/run/secrets/kubernetes.io/
exec "$@"
