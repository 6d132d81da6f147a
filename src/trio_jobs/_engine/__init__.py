"""Floor 4: the engine. `decide`: a job, what happened and the time give events. `fold`: events give jobs. Pure."""
