"""`demo`: the real agent on a made-up device, from the first deployment to a rollback by hand.

command    the command itself, and how it ends
story      the six acts; READ THIS FIRST
publisher  the publisher's repository, and what its releases hold
device     the device's directory, its agent process, and the commands that ask it
agent_log  what the agent has written meanwhile
telling    how it is shown: 80 columns, as it happens
"""

from ota_agent.cli.demo.command import demo

__all__ = ["demo"]
