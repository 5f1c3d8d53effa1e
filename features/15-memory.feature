Feature: Remember what a restart was for
  People undo a rollout, operators put their template back, and tags move back and forth. figwasp writes
  with each restart what it was for. It never makes the same restart again where somebody took it back,
  and it does not mistake another situation for that one.

  Background:
    Given a repository with an image of a server that says "v1"

  Rule: A restart that was undone is not made again

    Scenario: The rollout of a Deployment is undone
      Given a Deployment of that image
      And an image that cannot run is pushed under the same tag
      And figwasp runs
      When the rollout of the Deployment has failed and is undone
      And figwasp runs 3 times more
      Then the first run succeeded, and all later ones failed and said "taken back, echo was restarted for"
      And the same pods keep running
      And the client still hears "v1"

    Scenario: The rollout of a StatefulSet is undone
      Given a StatefulSet of that image
      And an image that cannot run is pushed under the same tag
      And figwasp runs
      When the rollout of the StatefulSet has failed and is undone
      And figwasp runs 3 times more
      Then the first run succeeded, and all later ones failed and said "taken back, echo was restarted for"
      And the same pods keep running
      And the client still hears "v1"

    Scenario: The rollout of a DaemonSet is undone
      Given a DaemonSet of that image that keeps an old pod until the new one is ready
      And an image that cannot run is pushed under the same tag
      And figwasp runs
      When the rollout of the DaemonSet has failed and is undone
      And figwasp runs 3 times more
      Then the first run succeeded, and all later ones failed and said "taken back, echo was restarted for"
      And the same pods keep running
      And the client still hears "v1"

    Scenario: The next push after an undo is rolled out
      Given a Deployment of that image, whose restart for a bad image was undone
      When an image that says "v3" is pushed under the same tag
      And figwasp runs
      Then the client comes to hear "v3"
      And another run of figwasp starts no rollout

    Scenario: A restart by hand lifts what an undo has said
      Given a Deployment of that image, whose restart for a bad image was undone
      And the tag is moved back to the image that says "v1"
      And the Deployment is restarted by hand
      When the tag is moved back to the bad image
      And figwasp runs
      Then figwasp succeeds and says "restarted, outdated: echo"
      And there have been 2 rollouts

    Scenario: Nobody has restarted it since, and the tag returns to what was undone
      Given a Deployment of that image, whose restart for a bad image was undone
      And the tag is moved back to the image that says "v1"
      And figwasp runs
      When the tag is moved back to the bad image
      And figwasp runs
      Then figwasp fails and says "taken back, echo was restarted for"
      And the same pods keep running

    Scenario: A Deployment that keeps no older revisions cannot show an undo
      Given a Deployment of that image that keeps no older revisions
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then figwasp succeeds and says "keeps no older revisions"
      And the client comes to hear "v2"

  Rule: An owner that puts its template back is let be

    Scenario: An operator puts back what figwasp has written
      Given a Deployment of that image, whose owner puts its template back
      And an image that says "v2" is pushed under the same tag
      When figwasp runs, and 4 times more when that has come to rest
      Then every run failed and said "taken back, echo was restarted for"
      And every run failed and said "its template belongs to field manager shop-operator"
      And the same pods keep running

  Rule: Only the very same restart counts as made

    Scenario: The tag returns to an image after a restart by hand
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      And figwasp runs
      And the client comes to hear "v2"
      And the tag is moved back to the image that says "v1"
      And the Deployment is restarted by hand
      When the tag is moved back to the image that says "v2"
      And figwasp runs
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"
      And there have been 3 rollouts
      And another run of figwasp starts no rollout

    Scenario: The tag returns to an image after an undo
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      And figwasp runs
      And the client comes to hear "v2"
      And the tag is moved back to the image that says "v1"
      And the rollout is undone, so that the client hears "v1"
      When the tag is moved back to the image that says "v2"
      And figwasp runs
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"
      And another run of figwasp starts no rollout

    Scenario: A push that came between figwasp's question and the pull is rolled back
      Given a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      And figwasp runs as a Job, and an image that says "v3" is pushed before the new pods pull
      And the client comes to hear "v3"
      When the tag is moved back to the image that says "v2"
      And figwasp runs
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"
      And there have been 2 rollouts
      And another run of figwasp starts no rollout

  Rule: Without a memory there is no restart

    Scenario: Something takes figwasp's note out of pod templates
      Given a Deployment of that image
      And a webhook that takes the annotation "figwasp/restarted-for" out of pod templates
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then figwasp fails and says "would have no annotation figwasp/restarted-for, something takes it out"
      And the same pods keep running

    Scenario: Something takes the time of the restart out of pod templates
      Given a Deployment of that image
      And a webhook that takes the annotation "kubectl.kubernetes.io/restartedAt" out of pod templates
      And an image that says "v2" is pushed under the same tag
      When figwasp runs
      Then figwasp fails and says "would have no annotation kubectl.kubernetes.io/restartedAt, something takes it out"
      And the same pods keep running
