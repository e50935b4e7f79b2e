"""Where a process begins: the `earl` command, and `python -m earl`."""

import sys


def main() -> int:
    """Run one command; Ctrl-C while the first modules are imported ends it as it does later."""
    try:
        from earl import cli
    except KeyboardInterrupt:
        print("earl: interrupted", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
