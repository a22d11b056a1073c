"""`python -m ota_agent` is `ota-agent`."""

from ota_agent.cli import main

if __name__ == "__main__":
    main()
