"""Examination of a host: each fault as a finding with its remedy."""
