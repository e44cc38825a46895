"""Who should answer: features, estimators, policies, exploration. Talks to no network and no database."""
