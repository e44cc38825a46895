"""Who should answer: features, estimators, policies, exploration. No network, no database."""
