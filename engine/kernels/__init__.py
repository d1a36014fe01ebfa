"""Own kernels, in C, built on the user's machine where it has a compiler; never needed."""
