//! Stories with real agents and real virtual machines, run as processes.
