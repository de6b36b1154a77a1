"""One log on many machines: signed records of groups, the carrier that orders them, the hosts' followers."""
