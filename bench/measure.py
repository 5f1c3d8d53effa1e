"""Runs a command and writes its CPU time and peak memory to a file. The kernel reports these to the parent process by
wait4(2), which Node cannot call. Usage: measure.py RESULT ENV COMMAND..., with the environment ENV as JSON."""

import json
import os
import sys
import time

result, environment, *command = sys.argv[1:]
start = time.monotonic()
child = os.posix_spawnp(command[0], command, json.loads(environment))
_, status, usage = os.wait4(child, 0)
cost = {
    "wallMs": (time.monotonic() - start) * 1000,
    "cpuMs": (usage.ru_utime + usage.ru_stime) * 1000,
    "peakMiB": usage.ru_maxrss / 1024,
    "exitCode": os.waitstatus_to_exitcode(status),
}
with open(result, "w") as file:
    json.dump(cost, file)
