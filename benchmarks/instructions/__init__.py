"""Instructions instead of time: counted by callgrind, and the same on a busy machine as on a quiet one."""
