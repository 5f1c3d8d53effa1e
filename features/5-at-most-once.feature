Feature: Restart at most once for the same digest
  Where the nodes pull something else than the registry says, through a stale mirror for one, no restart
  helps. figwasp tries once, then says what is likely wrong, and the Job fails so that somebody looks.

  Background:
    Given a registry behind a mirror from which the nodes pull
    And a repository with an image of a server that says "v1"
    And a Deployment of that image

  Rule: A workload is restarted once for a digest, however often figwasp runs

    Scenario: The nodes pull through a mirror that is behind
      Given an image that says "v2" is pushed, and the mirror does not have it yet
      When figwasp runs 10 times
      Then there has been one rollout
      And the first run succeeded, and all later ones failed and said "they pull through a mirror or cache that still serves an older image"
      And the last run says "Mount the nodes' certs.d folder as FIGWASP_CERTS_DIR"
      And the Deployment has one Event that says that it did not converge
      And the client still hears "v1"

    Scenario: The retry interval has not passed
      Given an image that says "v2" is pushed, and the mirror does not have it yet
      And figwasp runs and restarts the Deployment in vain
      When figwasp runs with a retry interval that has not passed
      Then figwasp fails and says "not converged"
      And there has been one rollout

    Scenario: The mirror is still behind when the retry interval has passed
      Given an image that says "v2" is pushed, and the mirror does not have it yet
      And figwasp runs and restarts the Deployment in vain
      When figwasp runs with a retry interval that has passed
      And figwasp runs with a retry interval that has not passed
      Then figwasp fails and says "not converged"
      And there have been 2 rollouts

    Scenario: The mirror has caught up when the retry interval has passed
      Given an image that says "v2" is pushed, and the mirror does not have it yet
      And figwasp runs and restarts the Deployment in vain
      When the mirror has caught up
      And figwasp runs with a retry interval that has passed
      Then the client comes to hear "v2"
      And there have been 2 rollouts
      And another run of figwasp starts no rollout

  Rule: A container that is stuck is no reason for a restart, and no hindrance to one

    Scenario: The other container is pushed while one is stuck
      Given another repository with an image of a server that says "a1"
      And a Deployment of both images
      And an image that says "v2" is pushed, and the mirror does not have it yet
      And figwasp runs and restarts the Deployment in vain
      When an image that says "a2" is pushed to the other repository
      And figwasp runs
      Then figwasp fails and says "restarted, outdated: echo (try 2), other"
      And there have been 2 rollouts
      When figwasp runs again when that has rolled out
      Then figwasp fails and says "not converged"
      And there have been 2 rollouts

  Rule: With the nodes' own mirror in its hosts folder, figwasp asks where they ask

    Scenario: figwasp waits for the mirror
      Given an image that says "v2" is pushed, and the mirror does not have it yet
      When figwasp runs as a Job that asks the mirror
      Then figwasp succeeds and says "current, nothing to do"
      And there has been no rollout
      When the mirror has caught up
      And figwasp runs as a Job that asks the mirror
      Then the client comes to hear "v2"
      And there has been one rollout
