//! `teu doctor`: what this kernel can do, and what is lost without it.
