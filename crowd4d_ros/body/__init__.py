"""The human body: SMPL's forward pass, its files, its keypoints and the rotations it is made of."""
