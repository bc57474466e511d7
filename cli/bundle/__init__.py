"""`tandem bundle`: bundles on disk, in storage and in running processes.

commands  list, verify, show, sign and fetch; the group that has all of them
swap      status, activate and rollback: versions in running processes
storage   where a bundle is fetched from
"""
