"""The gateway as a Ray Serve application (floor 7).

`application` makes it, `environment` says what Ray has to be told before it is
imported, `local` is a cluster of one machine. Nothing is imported here, since
Ray Serve reads its environment when it is imported.
"""
