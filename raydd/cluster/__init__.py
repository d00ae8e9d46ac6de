"""Ray: connect, a pool of units, tasks, fit; imported first, it says how Ray shall behave."""

import os

# Ray reads these when it is imported or when a fit starts; a user's own setting wins.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is paid at every report
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # Ray Tune would draw tables over the progress line
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the folder of the command
    "RAY_task_oom_retries": "4",  # a task that never fits into memory would be tried for ever
}
# An S3 store that is out of reach is asked again for about a minute; boto3 gives up after seconds.
_PATIENT = {"AWS_RETRY_MODE": "standard", "AWS_MAX_ATTEMPTS": "12"}
for _name, _value in (_QUIET | _PATIENT).items():
    os.environ.setdefault(_name, _value)
