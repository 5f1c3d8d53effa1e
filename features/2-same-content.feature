Feature: Tell new content from a new name for the old
  What a node reports as running and what a tag points to may be different names of the same image: an
  index and one of its platforms, an index rebuilt over the same image, another repository. figwasp
  restarts when a fresh pull would bring other content, and only then.

  Rule: A multi-platform image is compared as a whole

    Scenario: A multi-platform image moved
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And a multi-platform image that says "v2" is pushed under the same tag
      When figwasp runs as a Job
      Then the client comes to hear "v2"
      And another run of figwasp starts no rollout

    Scenario: Only another platform's image changed
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And a multi-platform image is pushed under the same tag, of which only another platform's says "v2"
      When figwasp runs as a Job
      Then figwasp succeeds and says "restarted, outdated: echo"
      And there has been one rollout
      And another run of figwasp starts no rollout

    Scenario: Only another platform's image changed, and figwasp may know the platforms of the nodes
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And a multi-platform image is pushed under the same tag, of which only another platform's says "v2"
      When figwasp runs
      Then figwasp succeeds and says "current, nothing to do"
      And there has been no rollout

    Scenario: A node goes on knowing its image by the older index
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And only another platform's image is changed under the same tag, so that the nodes go on by the older index
      When figwasp runs as a Job
      And figwasp runs as a Job again when that has rolled out
      Then figwasp succeeds and says "the nodes may know one by either name"
      And there has been one rollout

  Rule: A rebuild of the same image is no new content

    Scenario: The tag moves three times to new indexes over the same image
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      When three times a new index over the same image is pushed and figwasp runs twice
      Then figwasp succeeds and says "another index of the same image"
      And the same pods keep running

    Scenario: A pod was started from a new index over the same image
      Given the tag "multi" with a multi-platform image that says "v1"
      And a Deployment of that image
      And a new index over the same image is pushed under the same tag
      When the Deployment is restarted by hand
      And figwasp runs
      Then figwasp succeeds and says "current, nothing to do"
      And there has been one rollout

  Rule: The name that a node knows an image by does not matter

    Scenario: The node knows the image by another repository's name
      Given the tag "multi" with a multi-platform image that says "v1", known to the node by another repository
      And a Deployment of that image
      And figwasp runs
      And the same pods keep running
      When a multi-platform image that says "v2" is pushed in the same way
      And figwasp runs
      Then the client comes to hear "v2"
      And there has been one rollout
      And another run of figwasp starts no rollout
