Feature: Install figwasp, and put it in the place of figwasp v1
  It is applied as it is, or by a kustomization of one's own that sets the image, the schedule and the
  namespace. Where few rights are wanted it needs none on Secrets; where figwasp v1 was, it takes its
  place and leaves nothing of it.

  Rule: Every way to install it is accepted by the cluster, and says what it is

    Scenario: Each folder, as it is
      When figwasp is installed from each of these folders:
        | deploy                |
        | deploy/all-namespaces |
        | deploy/no-secrets     |
        | deploy/v1             |
      Then all that was installed carries the recommended labels, with the version of its image

  Rule: The guide's kustomizations do what the guide says

    Scenario: Image, schedule and namespace
      When figwasp is installed by the guide's "Image, schedule and namespace"
      Then its image, its schedule, its namespace and its setting are the guide's

    Scenario: In a namespace of its own
      Given a repository with an image of a server that says "v1"
      And a Deployment in another namespace that carries the same label
      And an image that says "v2" is pushed under the same tag
      When figwasp runs in a namespace of its own, by the guide's "In a namespace of its own"
      Then the Deployment in the other namespace has been rolled out

    Scenario: All namespaces, without any right on Secrets
      When figwasp is installed by the guide's "Without any right on Secrets"
      Then no rule of its rights is about Secrets, and a docker config is mounted

    Scenario: With the platforms of the nodes
      When figwasp is installed by the guide's "The platforms of the nodes"
      Then a ClusterRole and its binding let it get nodes, and no more
      And all that was installed carries the recommended labels, with the version of its image

  Rule: It needs no right on Secrets

    Background:
      Given a repository with an image of a server that says "v1"

    Scenario: The images are public
      Given a Deployment of that image, with the label that figwasp looks for
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as its CronJob, without rights on Secrets
      Then the client comes to hear "v2"
      And figwasp may read no Secret

    Scenario: The docker config is mounted from a Secret
      Given the repository is in a private registry
      And a Deployment of that image, with its pull secret
      And an image that says "v2" is pushed under the same tag
      When figwasp runs as its CronJob, with a docker config and without rights on Secrets
      Then the client comes to hear "v2"
      And figwasp may read no Secret

  Rule: It takes the place of figwasp v1

    Background:
      Given a repository with an image of a server that says "v1"

    Scenario: Applied over figwasp v1
      Given a Deployment of that image
      And the manifests of figwasp v1 are applied, for that Deployment
      And an image that says "v2" is pushed under the same tag
      When figwasp is applied over them, and runs as its CronJob
      Then the client comes to hear "v2"
      And the API server was asked for exactly this:
        | get           | deployments |
        | list          | replicasets |
        | list          | pods        |
        | list          | replicasets |
        | dry-run patch | deployments |
        | patch         | deployments |
        | get           | deployments |
        | create        | events      |
      And every object of figwasp v1 was replaced in place, and none is left
