//! Gives a new user their institute, when they have confirmed their sign-up (Cognito post-confirmation trigger).
