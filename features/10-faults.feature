Feature: Meet a registry that misbehaves
  Registries go down, answer with errors, do not answer at all, or ask for patience. figwasp tries again
  where that can help; where it does not, the Job ends by itself and fails, with a message that says what
  happened, and no pod is restarted.

  Rule: A passing error does not stop it

    Scenario: The registry answers with an error, and then properly
      Given a repository with an image of a server that says "v1"
      And a Deployment of that image
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job, and the registry first answers with an error
      Then figwasp succeeds and says "restarted, outdated: echo"
      And the client comes to hear "v2"

  Rule: Half an answer is no reason to restart

    Scenario: The registry goes down when it has told the digest, and before it explains it
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And a multi-platform image that says "v2" is pushed under the same tag
      When figwasp runs as a Job, and the registry goes down after its first answer
      Then figwasp fails and says "ECONNREFUSED"
      And the same pods keep running

  Rule: It ends within its deadlines

    Background:
      Given a repository with an image of a server that says "v1"
      And a Deployment of that image
      And an image that says "v2" is pushed under the same tag

    Scenario: The registry takes the question and never answers
      When figwasp runs as a Job, and the registry never answers
      Then figwasp fails and says "gave no answer within"
      And the same pods keep running

    Scenario: The time of the whole run is up
      When figwasp runs as a Job, and the registry does not answer in the run's time
      Then figwasp fails and says "the run has reached its deadline"
      And the same pods keep running

  Rule: A registry that asks for patience is left in peace

    Scenario: The registry has had too many requests
      Given a repository with an image of a server that says "v1"
      And a Deployment of that image and of seven more in the same registry
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as a Job, and the registry asks it to come back later
      Then figwasp fails and says "429 Too Many Requests"
      And the registry was asked no more than 4 times
      And the same pods keep running
