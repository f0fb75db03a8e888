"""What is held against its bar, and what was not."""

import sys
import traceback

failures = []


def hold(what, good, told):
    print(f"{'ok    ' if good else 'FAILED'} {what}: {told}", flush=True)
    if not good:
        failures.append(what)


def part(what, *arguments):
    """Goes on with the next where one breaks off."""
    try:
        what(*arguments)
    except (Exception, SystemExit):
        traceback.print_exc(file=sys.stdout)
        failures.append(what.__name__)


def end():
    print("all held" if not failures else f"did not hold: {', '.join(failures)}")
    sys.exit(1 if failures else 0)
