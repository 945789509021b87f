//! `teu tour`: the main job, step by step.
