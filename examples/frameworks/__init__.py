"""rivet_ray inside applications of other frameworks; each module runs by itself."""
