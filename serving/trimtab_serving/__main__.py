"""`python -m trimtab_serving gateway` or `agent`."""

import signal
import sys


def main(arguments: list[str]) -> int:
    """Start the program that is asked for; what the other one needs is not imported."""
    # The first process of a container ignores what it has no handler for: told to stop while it
    # still imports, it would go on until the grace period, minutes, has passed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from trimtab_serving.settings import SettingMissing  # noqa: PLC0415 - after the handler

    try:
        if arguments == ["gateway"]:
            from trimtab_serving.gateway.main import main as run_gateway  # noqa: PLC0415

            run_gateway()
        elif arguments == ["agent"]:
            from trimtab_serving.agent.main import main as run_agent  # noqa: PLC0415

            run_agent()
        else:
            print("usage: python -m trimtab_serving gateway|agent", file=sys.stderr)
            return 64
    except SettingMissing as missing:
        print(missing, file=sys.stderr)
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
