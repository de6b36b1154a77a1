"""Checks that are watched for withdrawal."""
