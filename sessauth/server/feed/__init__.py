"""The carried log as a server of a cluster hands it on to followers: records, barriers, snapshots."""
