"""`make bench`: numbers that anybody can take again. They print, they fail nothing."""
