//! `teu image base`: an image out of the host itself.
